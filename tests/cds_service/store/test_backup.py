"""Backup and restore as `docs/deploy.md` describes them."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cds_service.store.errors import StoreError
from cds_service.store.store import CardRecord, Store


def _card(number: int) -> CardRecord:
    return CardRecord(f"c{number}", "s", f"h{number}", "p", None, "u", "info", "shown", [])


def test_a_copy_made_while_the_service_runs_can_be_restored(tmp_path: Path) -> None:
    running = Store(f"sqlite:///{tmp_path}/riskcards.db")
    for number in range(5):
        running.record_card(_card(number))
    place = tmp_path / "restored"
    place.mkdir()
    with closing(sqlite3.connect(tmp_path / "riskcards.db")) as old, closing(sqlite3.connect(place / "r.db")) as new:
        old.backup(new)
    shutil.copy2(tmp_path / "riskcards.db.key", place / "r.db.key")
    running.record_card(_card(5))
    running.close()
    restored = Store(f"sqlite:///{place}/r.db")
    assert (restored.verify_audit().fault, restored.verify_audit().entries) == (None, 5)
    restored.record_card(_card(6))
    assert restored.verify_audit().entries == 6
    restored.close()


def test_a_copy_without_its_key_is_refused(tmp_path: Path) -> None:
    running = Store(f"sqlite:///{tmp_path}/riskcards.db")
    running.record_card(_card(1))
    running.close()
    place = tmp_path / "restored"
    place.mkdir()
    shutil.copy2(tmp_path / "riskcards.db", place / "r.db")
    with pytest.raises(StoreError):
        Store(f"sqlite:///{place}/r.db").record_card(_card(2))
