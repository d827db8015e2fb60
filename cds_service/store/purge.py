"""Retention: deletes cards and what belongs to them in small batches, so that hooks are answered meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, delete, func, select, update

from cds_service.store import audit
from cds_service.store.engine import reading
from cds_service.store.errors import StoreError, named
from cds_service.store.key import StoreKey
from cds_service.store.schema import AUDIT, CARDS, ESTIMATES, FEEDBACK, OUTCOMES, SEALED, SUGGESTIONS

BATCH = 200
"""Cards deleted in one transaction: writers of cards wait for it."""
_PAUSE = 0.02
"""Seconds between two batches, in which others get the lock."""
_ATTEMPTS = 20
_INCOMPLETE = "not everything could be removed; run it again"
_EMPTIED = ("card", "feedback", "foreign-patient", "ward-list", "write-back", "refresh-failed")


def purge(engine: Engine, key: StoreKey, before: datetime, by: Mapping[str, Any]) -> int:
    """Deletes cards, estimates, feedback and outcomes before a time; the audit chain keeps their hashes.

    Its entry comes first: a purge that was interrupted is continued by the next one. Returns the number of cards.
    """
    moment = before.astimezone(UTC)
    old = CARDS.c.created < moment
    with named("nothing could be removed"), engine.begin() as connection:
        audit.lock(connection)
        cards = connection.execute(select(func.count()).where(old)).scalar() or 0
        audit.append(connection, key, "purge", "", {"before": moment.isoformat(), "cards": cards, **by})
        connection.execute(delete(SEALED).where(SEALED.c.expires <= datetime.now(UTC)))
    gone = 0
    while removed := _patiently(_batch, engine, old):
        gone += removed
        time.sleep(_PAUSE)
    while _patiently(_events, engine, moment):
        time.sleep(_PAUSE)
    return gone


def _patiently(step: Callable[[Engine, Any], int], engine: Engine, what: Any) -> int:
    """A step that is tried again: beside many writers SQLite's lock may not come in time, and nothing is in a hurry."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return step(engine, what)
        except StoreError:
            time.sleep(_PAUSE)
    return step(engine, what)


def _batch(engine: Engine, old: Any) -> int:
    with named(_INCOMPLETE), engine.begin() as connection:
        cards = list(connection.execute(select(CARDS.c.uuid).where(old).limit(BATCH)).scalars())
        if not cards:
            return 0
        for table in (ESTIMATES, SUGGESTIONS, FEEDBACK, OUTCOMES):
            connection.execute(delete(table).where(table.c.card.in_(cards)))
        connection.execute(
            update(AUDIT).where(AUDIT.c.subject.in_(cards), AUDIT.c.kind.in_(_EMPTIED)).values(body=None)
        )
        connection.execute(delete(CARDS).where(CARDS.c.uuid.in_(cards)))
    return len(cards)


def _events(engine: Engine, before: datetime) -> int:
    """Empties old entries that belong to no card, such as refusals; returns how many."""
    old = (AUDIT.c.at < before.isoformat(), AUDIT.c.kind.in_(_EMPTIED), AUDIT.c.body.is_not(None))
    with reading(engine, _INCOMPLETE) as connection:
        entries = list(connection.execute(select(AUDIT.c.seq).where(*old).limit(BATCH)).scalars())
    if entries:
        with named(_INCOMPLETE), engine.begin() as connection:
            connection.execute(update(AUDIT).where(AUDIT.c.seq.in_(entries)).values(body=None))
    return len(entries)
