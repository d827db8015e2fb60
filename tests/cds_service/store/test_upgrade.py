"""Databases of older versions, opened by this one.

`written_by_v0002.json` holds the rows that the store of schema v0002 wrote (commit 1fcfa8c): three cards, a mode and a
purge; then two cards, feedback, a mode, an outcome and an event, each with its audit entry as that version made it,
without seals, and with the salt in the database.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import insert, text

from cds_service.store import migrations
from cds_service.store.engine import open_engine
from cds_service.store.errors import StoreError
from cds_service.store.schema import METADATA
from cds_service.store.store import Store
from tests.cds_service.store.test_store import card

OLD: dict[str, list[dict[str, Any]]] = json.loads(Path(__file__).with_name("written_by_v0002.json").read_text())
ENTRIES = len(OLD["audit"])
OVERRIDDEN = OLD["feedback"][0]["card"]


@pytest.fixture(params=["v0002", "v0003"])
def old(request: pytest.FixtureRequest, url: str) -> str:
    """A database of that schema with what v0002 wrote; v0003 added only a table."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = open_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, request.param)
        for name, rows in OLD.items():
            table = METADATA.tables[name]
            for row in rows:
                kinds = {column: table.c[column].type.python_type.__name__ for column in row}
                given = {
                    column: text(f"'{value}'") if kinds[column] == "datetime" else value
                    for column, value in row.items()
                    if column != "id" or name == "salt"  # PostgreSQL counts on only where it has counted
                }
                connection.execute(insert(table).values(**given))
    engine.dispose()
    return url


def change(url: str, statement: str) -> None:
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_an_upgrade_keeps_everything_and_its_chain_verifies(old: str, tmp_path: Path) -> None:
    """A mode set to off stays off, patients keep their hashes, and the next entry follows the last old one."""
    store = Store(old, key_file=tmp_path / "upgraded.key")
    assert (store.verify_audit().entries, store.verify_audit().fault) == (ENTRIES, None)
    assert store.modes() == {(row["service"], row["tenant"]): row["mode"] for row in OLD["modes"]}
    assert store.card_service(OVERRIDDEN) == "hospital-risk"
    assert store.patient_hash("p3") == OLD["cards"][0]["patient_hash"]
    override = store.last_override("p3", "Encounter/e3", "Practitioner/u1", "hospital-risk")
    assert override is None, "of another client"
    assert OLD["salt"][0]["value"] == (tmp_path / "upgraded.key").read_text().split()[0]
    store.record_card(card())
    store.set_mode("hospital-risk", "north", "live", "")
    assert (store.verify_audit().entries, store.verify_audit().fault) == (ENTRIES + 2, None)
    store.close()


CHANGES = [
    ("an old card", "UPDATE cards SET summary_kind = 'info'", "its card was changed"),
    ("an old estimate", "UPDATE estimates SET probability = 0.9", "estimates of its card"),
    ("an old mode", "UPDATE modes SET mode = 'live'", "live is set"),
    ("old feedback", "DELETE FROM feedback", "its feedback was deleted"),
    ("an old entry", "UPDATE audit SET kind = 'x' WHERE seq = 9", "entry 9"),
    ("an old entry emptied", "UPDATE audit SET body = NULL WHERE seq = 9", "no purge covers it"),
]


@pytest.mark.parametrize(("name", "statement", "fault"), CHANGES, ids=[row[0] for row in CHANGES])
@pytest.mark.parametrize("old", ["v0002"], indirect=True)
def test_what_is_changed_after_the_upgrade_shows(
    old: str, tmp_path: Path, name: str, statement: str, fault: str
) -> None:
    store = Store(old, key_file=tmp_path / "upgraded.key")
    change(old, statement)
    found = store.verify_audit().fault
    assert found is not None
    assert fault in found
    store.close()


@pytest.mark.parametrize("old", ["v0002"], indirect=True)
def test_entries_without_seals_end_where_the_upgrade_was(old: str, tmp_path: Path) -> None:
    """Otherwise whoever may write to the database, and has no key, could go on writing entries as before seals."""
    store = Store(old, key_file=tmp_path / "upgraded.key")
    store.record_card(card())
    change(old, f"UPDATE audit SET seal = NULL WHERE seq > {ENTRIES}")
    assert f"entry {ENTRIES + 1}: its seal" in str(store.verify_audit().fault)
    store.close()


@pytest.mark.parametrize("old", ["v0002"], indirect=True)
def test_an_upgraded_database_needs_its_key_file(old: str, tmp_path: Path) -> None:
    Store(old, key_file=tmp_path / "upgraded.key").close()
    with pytest.raises(StoreError):
        Store(old, key_file=tmp_path / "another.key")
