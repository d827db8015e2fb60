"""What the app showed is no card that interrupted anybody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cds_service.store.engine import open_engine
from cds_service.store.history import History
from cds_service.store.store import Store
from tests.cds_service.store.test_store import card


def test_views_of_the_app_are_not_counted_as_cards(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/views.db"
    store, since = Store(url), datetime.now(UTC) - timedelta(hours=1)
    for service in ("hospital-risk", "app", "app"):
        store.record_card(card(service=service))
    engine = open_engine(url)
    history = History(engine)
    assert [(count.service, count.cards) for count in history.counts(since)] == [("hospital-risk", 1)]
    assert len(history.estimates(since)) == 1
    assert [body["service"] for body in history.newest(since, 10)] == ["hospital-risk"]
    engine.dispose()
    store.close()
