"""The store on both databases: acknowledged data is durable, retention and migrations keep it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text

from cds_service.store import migrations
from cds_service.store import purge as purging
from cds_service.store.engine import newest, open_engine
from cds_service.store.errors import StoreError
from cds_service.store.schema import METADATA
from cds_service.store.store import CardRecord, Store


def card(**changed: Any) -> CardRecord:
    estimate = {
        "task": "readmission_30d",
        "probability": 0.2,
        "abstention": None,
        "model_id": "m",
        "model_version": "1",
        "drivers": {"age": 0.1},
        "inputs": [0.1, None],
    }
    given = {
        "uuid": str(uuid.uuid4()),
        "service": "hospital-risk",
        "hook_instance": str(uuid.uuid4()),
        "patient": "p1",
        "encounter": "Encounter/e1",
        "user": "Practitioner/u1",
        "indicator": "warning",
        "shown": "shown",
        "estimates": [estimate],
        "suggestions": [str(uuid.uuid4())],
    }
    return CardRecord(**(given | changed))


def test_a_card_is_stored_completely(store: Store) -> None:
    kept = card()
    store.record_card(kept)
    assert store.card_service(kept.uuid) == "hospital-risk"
    assert store.suggestions_of(kept.uuid) == frozenset(kept.suggestions)
    record = store.card_record(kept.uuid)
    assert record is not None
    assert record["estimates"] == list(kept.estimates)
    assert "p1" not in str(record)
    assert store.card_record("unknown") is None


def test_repeated_and_concurrent_feedback_is_stored_once(store: Store) -> None:
    kept = card()
    store.record_card(kept)
    entry = {"card": kept.uuid, "outcome": "overridden", "outcomeTimestamp": "2026-01-01T00:00:00Z"}
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: store.add_feedback([entry]), range(24))) == 1
    assert store.feedback() == [entry]
    assert store.verify_audit().fault is None


def test_a_token_id_is_used_once(store: Store, url: str) -> None:
    expires = datetime.now(UTC) + timedelta(minutes=5)
    other = Store(url)
    with ThreadPoolExecutor(8) as pool:
        uses = pool.map(lambda i: (store, other)[i % 2].first_use("iss", "jti", expires), range(40))
    assert sum(uses) == 1
    assert store.first_use("another issuer", "jti", expires)
    other.close()


def test_modes_are_read_by_other_processes(store: Store, url: str) -> None:
    store.set_mode("*", "*", "silent", "trial")
    store.set_mode("*", "*", "off", "stop")
    other = Store(url)
    assert other.modes() == {("*", "*"): "off"}
    assert [entry.body for entry in other.audit_entries("mode")] == [
        {"mode": "silent", "reason": "trial", "service": "*", "tenant": "*"},
        {"mode": "off", "reason": "stop", "service": "*", "tenant": "*"},
    ]
    other.close()


def test_overrides_are_found_by_scope(store: Store) -> None:
    kept, elsewhere = card(), card(user="Practitioner/u2")
    for one in (kept, elsewhere):
        store.record_card(one)
    scope = ("p1", "Encounter/e1", "Practitioner/u1", "hospital-risk")
    assert store.last_override(*scope) is None
    store.add_feedback([{"card": elsewhere.uuid, "outcome": "overridden"}])
    assert store.last_override(*scope) is None
    store.add_feedback([{"card": kept.uuid, "outcome": "overridden"}])
    found = store.last_override(*scope)
    assert found is not None
    assert found.probabilities == {"readmission_30d": 0.2}
    assert datetime.now(UTC) - found.at < timedelta(minutes=1)


def test_warnings_are_counted_among_shown_cards(store: Store) -> None:
    for indicator, shown in (("warning", "shown"), ("info", "shown"), ("warning", "silent")):
        store.record_card(card(indicator=indicator, shown=shown))
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert store.warned_since("hospital-risk", hour_ago) == (1, 2)
    assert store.warned_since("readmission-30d", hour_ago) == (0, 0)


def test_outcomes_are_stored_once_and_corrected(store: Store) -> None:
    """A correction was dropped as "known already"."""
    kept = card()
    store.record_card(kept)
    outcome = (kept.uuid, "readmission_30d")
    assert store.add_outcomes([(*outcome, True)]) == (1, 0)
    assert store.add_outcomes([(*outcome, True)]) == (0, 0)
    assert store.add_outcomes([(*outcome, False)]) == (0, 1)
    (answered,) = store.history.estimates(datetime.now(UTC) - timedelta(days=1), with_outcome=True)
    assert answered.happened is False
    assert store.verify_audit().fault is None


def test_the_key_is_outside_the_database_and_private(tmp_path: Path) -> None:
    file = tmp_path / "cards.db"
    store = Store(f"sqlite:///{file}")
    store.record_card(card())
    key = tmp_path / "cards.db.key"
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("cards.db", "cards.db-wal", "cards.db-shm", "cards.db.key"), 0o600
    )
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path != key)
    assert key.read_bytes().strip() not in held
    assert store.patient_hash("p1").encode() in held
    store.close()


def test_another_or_no_key_is_noticed_and_a_shared_one_is_taken(tmp_path: Path) -> None:
    url, key = f"sqlite:///{tmp_path / 'cards.db'}", tmp_path / "cards.db.key"
    first = Store(url)
    hashed = first.patient_hash("p1")
    first.close()
    elsewhere = tmp_path / "kept.key"
    key.rename(elsewhere)
    with pytest.raises(StoreError, match="missing"):
        Store(url)
    Store(f"sqlite:///{tmp_path / 'other.db'}").close()
    with pytest.raises(StoreError, match="not the key"):
        Store(url, key_file=tmp_path / "other.db.key")
    again = Store(url, key_file=elsewhere)
    assert again.patient_hash("p1") == hashed
    again.close()
    elsewhere.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        Store(url, key_file=elsewhere)


def test_the_salt_of_an_older_database_moves_to_the_file(store: Store, url: str, tmp_path: Path) -> None:
    """The same patients keep the same hashes, and the salt is gone from the database."""
    salt = "ab" * 32
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE salt SET value = '{salt}'"))
    engine.dispose()
    file = tmp_path / "moved.key"
    moved = Store(url, key_file=file)
    assert file.read_text().split()[0] == salt
    assert moved.patient_hash("p1") == hashlib.sha256(f"{salt}:p1".encode()).hexdigest()
    with engine.connect() as connection:
        assert salt not in str(connection.execute(text("SELECT value FROM salt")).scalar())
    engine.dispose()
    moved.close()


def test_retention_works_in_batches_and_is_continued(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction for all held the writers' lock for nine seconds, and hooks were answered 503."""
    monkeypatch.setattr("cds_service.store.purge.BATCH", 3)
    taken: list[int] = []
    batch = purging._batch

    def interrupted(engine: Any, old: Any) -> int:
        if len(taken) == 2:
            raise StoreError("stopped")
        taken.append(batch(engine, old))
        return taken[-1]

    for _ in range(10):
        store.record_card(card())
    store.record_event("foreign-patient", "h", {"service": "hospital-risk"})
    later = datetime.now(UTC) + timedelta(minutes=1)
    with monkeypatch.context() as patch:
        patch.setattr(purging, "_batch", interrupted)
        patch.setattr(purging, "_PAUSE", 0.0)
        with pytest.raises(StoreError):
            store.purge(later)
    assert taken == [3, 3]
    assert store.verify_audit().fault is None, "an interrupted purge leaves a chain that verifies"
    assert store.purge(later) == 4
    assert store.verify_audit().fault is None
    assert [entry.body for entry in store.audit_entries("foreign-patient")] == [None]


def test_retention_removes_content_and_keeps_the_chain(store: Store) -> None:
    kept = card()
    store.record_card(kept)
    store.add_feedback([{"card": kept.uuid, "outcome": "overridden", "overrideReason": {"userComment": "Mr Smith"}}])
    assert store.purge(datetime.now(UTC) + timedelta(seconds=1)) == 1
    assert store.card_service(kept.uuid) is None
    assert store.feedback() == []
    assert store.card_record(kept.uuid) is None
    found = store.verify_audit()
    assert (found.entries, found.fault) == (3, None)
    store.record_card(card())
    assert store.verify_audit().fault is None


def test_a_database_of_this_version_is_opened_without_alembic(tmp_path: Path) -> None:
    """alembic would take twelve megabytes in every worker, for a schema that is up to date."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == newest()
    url = f"sqlite:///{tmp_path}/again.db"
    code = f"import sys; from cds_service.store import Store; Store({url!r}).close(); print('alembic' in sys.modules)"
    said = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)]
    assert [text.strip() for text in said] == [b"True", b"False"]


def test_migrations_make_what_the_schema_says(store: Store, url: str) -> None:
    engine = open_engine(url)
    look = inspect(engine)
    assert set(look.get_table_names()) - {"alembic_version"} == set(METADATA.tables)
    for name, table in METADATA.tables.items():
        assert {column["name"] for column in look.get_columns(name)} == set(table.columns.keys()), name
        assert {index["name"] for index in look.get_indexes(name)} >= {index.name for index in table.indexes}, name
    engine.dispose()


def test_a_database_from_before_migrations_is_migrated(tmp_path: Path) -> None:
    """Cards in the first version of the schema are found after its migration."""
    url = f"sqlite:///{tmp_path}/old.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE cards (uuid VARCHAR(36) PRIMARY KEY, created DATETIME NOT NULL,"
                " service VARCHAR(64) NOT NULL, hook_instance VARCHAR(36) NOT NULL,"
                " patient_hash VARCHAR(64) NOT NULL, summary_kind VARCHAR(16) NOT NULL)"
            )
        )
        for name in ("estimates", "suggestions", "feedback"):
            connection.execute(text(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, card VARCHAR(36))"))
        connection.execute(text("CREATE TABLE salt (id INTEGER PRIMARY KEY, value VARCHAR(64) NOT NULL)"))
        connection.execute(text("INSERT INTO cards VALUES ('old', '2026-01-01', 'hospital-risk', 'h', 'p', 'info')"))
    engine.dispose()
    store = Store(url)
    assert store.card_service("old") == "hospital-risk"
    store.set_mode("*", "*", "live", "")
    store.close()


def test_an_unopenable_database_is_named_without_its_password(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/no/such/folder/x.db", "postgresql://user:hunter2@127.0.0.1:1/none", "nonsense"):
        with pytest.raises(StoreError) as caught:
            Store(url)
        assert "hunter2" not in str(caught.value)


def test_a_read_only_database_is_not_ready(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/full.db")
    store.check()
    # A page limit at the current size acts like a full disk for SQLite.
    with store._engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
    big = card(estimates=[dict(card().estimates[0], inputs=[0.5] * 50_000)])
    with pytest.raises(StoreError):
        store.record_card(big)
    assert store.card_service(big.uuid) is None
    assert store.verify_audit().entries == 0
    store.close()


_WRITER = """
import sys
from cds_service.store import Store
from tests.cds_service.store.test_store import card
store = Store(sys.argv[1])
while True:
    one = card()
    store.record_card(one)
    store.add_feedback([{"card": one.uuid, "outcome": "overridden"}])
    print(one.uuid, flush=True)
"""


def test_a_killed_writer_loses_no_acknowledged_card(tmp_path: Path) -> None:
    """kill -9 at random points; `KILLS` in the environment makes it longer (200 in the security duties)."""
    url = f"sqlite:///{tmp_path}/killed.db"
    Store(url).close()
    acknowledged: list[str] = []
    kills = int(os.environ.get("KILLS", "4"))
    for number in range(kills):
        command = [sys.executable, "-c", _WRITER, url]
        root = Path(__file__).resolve().parents[3]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as writer:
            assert writer.stdout is not None
            acknowledged.append(writer.stdout.readline().strip())
            time.sleep(0.01 + 0.037 * number % 0.11)
            writer.send_signal(signal.SIGKILL)
            acknowledged += writer.stdout.read().split()
    store = Store(url)
    # The last line of a killed process may be cut: what it acknowledged is a whole uuid.
    whole = [line for line in acknowledged if len(line) == 36]
    assert len(whole) >= kills
    assert {entry["card"] for entry in store.feedback()} >= set(whole)
    assert store.verify_audit().fault is None
    store.close()


def test_the_doctor_names_the_database_and_verifies_its_chain(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from cds_service.cli import cli

    store.record_card(card())
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", url)
    report = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    line = next(item["detail"] for item in report if item["name"] == "database")
    kind = "PostgreSQL" if url.startswith("postgresql") else "SQLite"
    assert line.startswith(kind)
    assert line.endswith("takes a write; audit chain of 1 entries holds")
