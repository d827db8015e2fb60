"""The second entry, token and process of the store, on both databases."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from cds_service.store import store as module
from cds_service.store.key import StoreKey
from cds_service.store.store import Store
from tests.cds_service.store.test_store import card


def column(url: str, query: str) -> list[str]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(query)).scalars())
    finally:
        engine.dispose()


def test_a_repeated_entry_does_not_drop_those_after_it(store: Store) -> None:
    kept = card()
    store.record_card(kept)
    first, second, third = (
        {"card": kept.uuid, "outcome": "overridden", "outcomeTimestamp": f"2026-01-0{day}T00:00:00Z"}
        for day in (1, 2, 3)
    )
    assert store.add_feedback([first, first, second]) == 2
    assert store.add_feedback([first, second, third]) == 1
    assert store.feedback() == [first, second, third]
    assert store.verify_audit().fault is None
    assert [entry.subject for entry in store.audit_entries("feedback")] == [kept.uuid] * 3


def test_the_last_entry_of_a_full_card_refuses_the_whole_post(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FEEDBACK", 2)
    kept, other = card(), card()
    store.record_card(kept)
    store.record_card(other)
    entries = [
        {"card": kept.uuid, "outcome": "overridden", "outcomeTimestamp": f"2026-01-0{day}T00:00:00Z"}
        for day in (1, 2, 3)
    ]
    with pytest.raises(module.TooMuchFeedbackError):
        store.add_feedback(entries)
    assert store.feedback() == []
    assert store.add_feedback(entries[:2]) == 2
    assert store.add_feedback([entries[0], {**entries[0], "card": other.uuid}]) == 1
    with pytest.raises(module.TooMuchFeedbackError):
        store.add_feedback(entries[2:])


def test_clearing_used_tokens_deletes_only_the_expired(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that is deleted before it expires could be used again."""
    monkeypatch.setattr(module, "_CLEAR_EVERY", 3)
    now = datetime.now(UTC)
    assert store.first_use("iss", "old", now - timedelta(seconds=60))
    assert not store.first_use("iss", "old", now + timedelta(minutes=5)), "not cleared yet"
    assert store.first_use("iss", "valid", now + timedelta(minutes=5))
    assert store.first_use("iss", "third", now + timedelta(minutes=5))  # clears
    assert not store.first_use("iss", "valid", now + timedelta(minutes=5))
    assert not store.first_use("iss", "third", now + timedelta(minutes=5))
    kept = set(column(url, "SELECT fingerprint FROM seen_tokens"))
    assert kept == {hashlib.sha256(f"iss\n{jti}".encode()).hexdigest() for jti in ("valid", "third")}


def test_the_key_is_kept_and_its_check_is_in_the_database(url: str, tmp_path: Path) -> None:
    """Pseudonyms are keyed by the file's secret, the same after a restart, and of no other database's."""
    one = Store(url, key_file=tmp_path / "one.key")
    secret = (tmp_path / "one.key").read_text().split()[0]
    found = one.patient_hash("p1")
    assert found == StoreKey(secret).pseudonym("p1") != StoreKey("None").pseudonym("p1")
    salt = column(url, "SELECT value FROM salt")
    assert len(salt) == 1
    assert salt[0].startswith("file:")
    assert secret not in salt[0]
    one.close()
    again = Store(url, key_file=tmp_path / "one.key")
    assert again.patient_hash("p1") == found
    assert len({again.patient_hash("p1"), again.patient_hash("p2"), again.user_hash("p1"), again.stay_hash("p1")}) == 4
    again.close()


def test_a_second_mode_changes_only_its_own_service_and_tenant(store: Store) -> None:
    store.set_mode("a", "north", "silent", "one")
    store.set_mode("a", "south", "off", "two")
    store.set_mode("b", "north", "pilot", "three")
    store.set_mode("a", "north", "on", "four")
    assert store.modes() == {("a", "north"): "on", ("a", "south"): "off", ("b", "north"): "pilot"}
