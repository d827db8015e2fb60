"""Errors of commands are one line with cause, path and remedy; no partial output is left."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cds_service import cli
from cds_service.commands.patients import score_folder
from cds_service.commands.service import serve
from tests.end_to_end.conftest import free_port
from tests.end_to_end.golden import EXAMPLES
from tests.fhir_mapping.bulk.test_population import export

CHART = EXAMPLES / "sepsis-icu-first-day" / "bundle.json"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    def invoke(*arguments: Any, **env: str) -> tuple[int, str]:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["riskcards", *map(str, arguments)])
        with pytest.raises(SystemExit) as found:
            cli.main()
        return int(found.value.code or 0), capfd.readouterr().err

    return invoke


def test_a_full_disk_is_reported_with_a_remedy(run: Run) -> None:
    code, said = run("map", CHART, "--out", "/dev/full")
    assert code == 1
    assert said == "riskcards: No space left on device; free some space or choose another path, then run again\n"


@pytest.mark.parametrize("command", [["map", "--to", "meds"], ["cohort", "build", "--task", "readmission_30d"]])
def test_an_output_path_that_cannot_be_created(run: Run, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").touch()
    export(tmp_path / "in", 2)
    source = [tmp_path / "in"] if command[0] == "map" else ["--fhir", tmp_path / "in"]
    code, said = run(*command, *source, "--out", tmp_path / "file" / "out")
    assert code == 1
    assert said.splitlines()[-1] == f"riskcards: {tmp_path}/file/out: Not a directory"


def test_messages_of_system_errors() -> None:
    assert cli._in_words(OSError(errno.EROFS, "", "/srv/m")) == (
        "/srv/m: Read-only file system; choose a path this user can write to"
    )
    assert cli._in_words(OSError("98304 requested and 16352 written")).startswith("No space left on device; ")
    assert cli._in_words(OSError(errno.EMFILE, "Too many open files")) == "Too many open files"


def test_an_interrupted_command_leaves_no_partial_output(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path / "in", 3)

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(score_folder, "risk_assessment", stopped)
    assert run("score", tmp_path / "in", "--out", tmp_path / "s.ndjson")[0] == 130
    monkeypatch.setattr("fhir_mapping.record.patient_record.PatientRecord.features", stopped)
    assert run("map", tmp_path / "in", "--out", tmp_path / "f.jsonl")[0] == 130
    monkeypatch.setattr("fhir_mapping.bulk.meds_writer.MedsWriter.add_events", stopped)
    assert run("map", tmp_path / "in", "--to", "meds", "--out", tmp_path / "meds")[0] == 130
    # The events were made before they could not be added: those parts are kept for the next run, which removes them.
    assert {path.name for path in tmp_path.iterdir()} - {"cache", "data"} == {"in", "meds.work"}


def test_a_demo_without_usable_patients_does_not_start(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    code, said = run("demo", "--no-browser", "--patients", tmp_path / "in", "--port", free_port())
    assert code == 3
    assert "no usable patients" in said.splitlines()[-1]


def test_startup_errors_are_reported_once_before_workers_start(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (["serve", "--insecure"], ["demo", "--no-browser"]):
            assert run(*command, "--port", port) == (1, f"Error: port {port} is in use; try --port {port + 1}\n")
    (tmp_path / "models").mkdir()
    url = f"sqlite:///{tmp_path}/models/no/riskcards.db"
    code, said = run("serve", "--insecure", "--port", port, RISKCARDS_DATABASE_URL=url)
    assert code == 1
    assert f"the database {tmp_path}/models/no/riskcards.db cannot be opened: unable to open database file" in said
    url = "postgresql://riskcards:hunter2@127.0.0.1:1/cards"
    code, said = run("audit", "verify", RISKCARDS_DATABASE_URL=url)
    assert "the database 127.0.0.1:1/cards cannot be opened" in said
    assert "hunter2" not in said
    code, said = run("serve", "--insecure", "--port", port, RISKCARDS_DATABASE_URL="sqlite://")
    assert (code, "a database in memory" in said) == (2, True)
    env = {"RISKCARDS_DATABASE_URL": f"sqlite:///{tmp_path}/r.db", "RISKCARDS_MODELS": str(tmp_path / "models")}
    code, said = run("serve", "--insecure", "--port", port, **env)
    assert code == 3
    assert said.startswith(f"riskcards: {tmp_path}/models/in_hospital_mortality/manifest.json: no model here")
    (tmp_path / "key").write_text("anybody's")
    (tmp_path / "smart.yaml").write_text("clients: [{name: g, iss: https://e.example/r4, client_id: r, type: public}]")
    env = {"RISKCARDS_SMART_CLIENTS": f"{tmp_path}/smart.yaml", "RISKCARDS_PUBLIC_URL": "https://c.example"}
    code, said = run("serve", "--insecure", "--port", port, RISKCARDS_SESSION_KEY_FILE=f"{tmp_path}/key", **env)
    assert code == 2
    assert said.endswith(f"RISKCARDS_SESSION_KEY_FILE: {tmp_path}/key: others may read this key; chmod 600 it\n")
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


ADDRESSES = [
    ("127.0.0.1", 18081, None, ["127.0.0.1:18081"]),
    ("::1", 18081, None, ["[::1]:18081"]),
    ("[::1]", 18081, "[::1]:18082", ["[::1]:18081", "[::1]:18082"]),
    ("localhost", 18081, "127.0.0.1:18082", ["localhost:18081", "127.0.0.1:18082"]),
]


@pytest.mark.parametrize(("host", "port", "admin", "expected"), ADDRESSES)
def test_addresses_of_both_protocols(
    host: str, port: int, admin: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--host ::1` ended in a traceback."""
    monkeypatch.setattr(serve, "check_port", lambda *_: None)
    assert serve._addresses(host, port, admin) == expected


@pytest.mark.parametrize(("host", "admin"), [("10.0.0.5", "127.0.0.1:18081"), ("::1", "127.0.0.1:18081")])
def test_the_port_of_operators_is_another_one(host: str, admin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one port at two addresses every client was taken for an operator."""
    monkeypatch.setattr(serve, "check_port", lambda *_: None)
    with pytest.raises(click.UsageError, match="another port"):
        serve._addresses(host, 18081, admin)


def test_binary_outcome_files_are_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_bytes(b"\xfc\x00\x01")
    code, said = run("outcomes", "import", "--unused", tmp_path / "o.csv", RISKCARDS_DATABASE_URL="sqlite://")
    assert (code, "not a CSV file in UTF-8" in said) == (3, True)


@pytest.mark.parametrize(("asked", "meant"), [("scor", "score"), ("trian", "train"), ("sitemap", "site-map")])
def test_a_misspelt_command_is_answered_with_the_nearest(run: Run, asked: str, meant: str) -> None:
    code, said = run(asked, "--help")
    assert code == 2
    assert f"no command {asked!r}; did you mean {meant!r}?" in said


def test_help_fits_eighty_columns_and_names_every_command() -> None:
    text = CliRunner().invoke(cli.cli, ["--help"], terminal_width=80).output
    assert max(map(len, text.splitlines())) <= 80
    listed = [line.split()[0] for line in text.splitlines() if re.match(r"  [a-z][a-z-]* {2,}[A-Z]", line)]
    assert listed == list(cli.COMMANDS)
