"""`riskcards serve` and `riskcards audit verify` on a database that was restored as `docs/deploy.md` says."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import uuid
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
import requests
from click.testing import CliRunner

from cds_service.cli import cli
from cds_service.store.store import Store
from tests.cds_service.store.conftest import postgres
from tests.cds_service.store.test_backup import _tools
from tests.cds_service.store.test_store import card
from tests.contract.conftest import whole_request
from tests.patience import PATIENT, responds, until

ROOT = Path(__file__).resolve().parents[2]
__all__ = ["postgres"]
PATH = "/cds-services/readmission-30d"


def _restored(kind: str, request: pytest.FixtureRequest, folder: Path) -> tuple[str, Store]:
    """The URL of a restored database, and the store it was copied from, which is in use meanwhile."""
    if kind == "sqlite":
        store = Store(f"sqlite:///{folder}/old.db", key_file=folder / "database.key")
        _fill(store)
        with closing(sqlite3.connect(folder / "old.db")) as old, closing(sqlite3.connect(folder / "new.db")) as new:
            old.backup(new)
        (folder / "new.db").chmod(0o600)
        return f"sqlite:///{folder}/new.db", store
    server: str = request.getfixturevalue("postgres")
    names = [f"served{uuid.uuid4().hex}" for _ in range(2)]
    with psycopg.connect(server, autocommit=True) as connection:
        for name in names:
            connection.execute(f'CREATE DATABASE "{name}"')  # a name of ours; identifiers cannot be parameters
        tools = _tools(connection)
    old_url, new_url = (server.replace("/postgres?", f"/{name}?", 1) for name in names)
    store = Store(old_url, key_file=folder / "database.key")
    _fill(store)
    subprocess.run([tools / "pg_dump", "--format=custom", "--file", folder / "dump", old_url], check=True)
    subprocess.run([tools / "pg_restore", "--exit-on-error", "--dbname", new_url, folder / "dump"], check=True)
    return new_url, store


def _fill(store: Store) -> None:
    """Three cards, feedback, an outcome, and one task switched off: six entries of the chain, and the mode's."""
    cards = [card(uuid=f"00000000-0000-4000-8000-00000000000{number}") for number in range(3)]
    for each in cards:
        store.record_card(each)
    store.add_feedback([{"card": cards[0].uuid, "outcome": "overridden"}])
    store.add_outcomes([(cards[0].uuid, "readmission_30d", True)])
    store.set_mode("task:in_hospital_mortality", "*", "off", "drill")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_restored_database_is_served_and_its_chain_goes_on(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Its cards take feedback, its modes hold, new cards follow, and a head of after the backup shows what is lost."""
    url, old = _restored(kind, request, tmp_path)
    old.record_card(card())
    after = old.verify_audit()
    lost = f"{after.entries}:{after.head}:{old.sign_head(after.entries, after.head)}"
    old.close()
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {
        "RISKCARDS_DATABASE_URL": url,
        "RISKCARDS_DATABASE_KEY_FILE": str(tmp_path / "database.key"),
        "RISKCARDS_RUN_FOLDER": str(tmp_path / "run"),
    }

    def audit(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["audit", *words], env=env)
        return done.exit_code, done.output

    serve = [sys.executable, "-m", "cds_service.cli", "serve", "--insecure", "--port", str(port), "--workers", "1"]
    with (
        (tmp_path / "log.txt").open("wb") as log,
        subprocess.Popen(serve, env=env, cwd=ROOT, stdout=log, stderr=log) as process,
        ExitStack() as stack,  # a failure ends the service too
    ):
        stack.callback(process.terminate)
        base = f"http://127.0.0.1:{port}"
        assert until(lambda: process.poll() is not None or responds(f"{base}/health/ready")), log.name
        entry = {"card": "00000000-0000-4000-8000-000000000001", "outcome": "overridden"}
        feedback = {"feedback": [entry | {"outcomeTimestamp": "2026-01-01T00:00:00Z"}]}
        answer = requests.post(f"{base}/cds-services/hospital-risk/feedback", json=feedback, timeout=PATIENT)
        assert answer.status_code == 200, answer.text
        answer = requests.post(f"{base}{PATH}", json=whole_request("diabetic-heart-failure-discharge"), timeout=PATIENT)
        assert len(answer.json()["cards"]) == 1, answer.text
        start = whole_request("diabetic-heart-failure-view")
        answer = requests.post(f"{base}/cds-services/hospital-risk", json=start, timeout=PATIENT)
        assert "ospital mortality" not in answer.json()["cards"][0]["detail"], "that task is off"
        code, said = audit("verify", "--json")
    assert code == 0, said
    assert (json.loads(said)["entries"], json.loads(said)["fault"]) == (9, None)
    code, said = audit("verify", "--head", lost)
    assert code == 3
    assert f"entry {after.entries} is another" in said
