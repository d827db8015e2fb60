"""`--workers`, `--engine` and `--work` of the commands on folders: one result, whatever works and whatever dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifact_store import disable_telemetry
from cds_service import cli
from tests.end_to_end.golden import EXAMPLES

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., tuple[int, str]]
COMMANDS = [
    ("score", "--task", "in_hospital_mortality", "--as-of", "2024-02-11T03:00:00Z"),
    ("map", "--to", "markdown"),
    ("explain", "--as-of", "2024-05-09T11:00:00Z"),
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def invoke(*arguments: Any) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["riskcards", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), capfd.readouterr().err

    return invoke


@pytest.fixture
def charts(tmp_path: Path) -> Path:
    """The examples as a folder of Bundles, and a file that is none."""
    (folder := tmp_path / "charts").mkdir()
    for bundle in sorted(EXAMPLES.glob("*/bundle.json")):
        shutil.copy(bundle, folder / f"{bundle.parent.name}.json")
    (folder / "broken.json").write_text("{")
    return folder


def without_progress(said: str) -> list[str]:
    return [line for line in said.splitlines() if not line.startswith("patients ")]


@pytest.mark.parametrize("command", COMMANDS[:2], ids=["score", "map"])
def test_two_workers_write_what_one_writes(run: Run, charts: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    code, said = run(*command, charts, "--out", tmp_path / "one")
    assert code == 3, "a file is unreadable"
    again = run(*command, charts, "--out", tmp_path / "two", "--workers", 2)
    assert (again[0], without_progress(again[1].replace("/two", "/one"))) == (code, without_progress(said))
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes() != b""
    assert {path.name for path in tmp_path.iterdir()} - {"cache", "data"} == {"charts", "one", "two"}


_KILLED = """
import os, signal, sys
from pathlib import Path
from artifact_store import parts
from cds_service import cli
from cds_service.commands.patients.map_folder import Form

notes, document, whole = Path(os.environ["NOTES"]), Form.document, parts.atomic_file

def noted(self, record):
    if not (notes / "killed").exists():
        (notes / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with (notes / "mapped").open("a") as stream:
        stream.write(record.subject_id + "\\n")
    return document(self, record)

def dying(path, durable=False):
    if len(list(path.parent.glob("*.part"))) == int(os.environ["AFTER"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(path, durable=durable)

Form.document, parts.atomic_file = noted, dying
if __name__ == "__main__":
    cli.main()
"""


def test_killed_workers_and_a_killed_run_lose_nothing_and_do_nothing_twice(
    run: Run, charts: Path, tmp_path: Path
) -> None:
    """A worker is killed at its first patient, the command itself after three parts; then it is run again."""
    (script := tmp_path / "killed.py").write_text(_KILLED)
    (notes := tmp_path / "notes").mkdir()
    command = ["map", str(charts), "--out", str(tmp_path / "out"), "--workers", "2"]
    environment = os.environ | {"NOTES": str(notes), "PYTHONPATH": str(ROOT)}

    def mapped(after: int) -> tuple[int, list[str]]:
        (notes / "mapped").write_text("")
        done = subprocess.run(
            [sys.executable, script, *command],
            env=environment | {"AFTER": str(after)},
            capture_output=True,
            check=False,
        )
        return done.returncode, (notes / "mapped").read_text().split()

    assert mapped(after=3)[0] == -signal.SIGKILL
    assert (notes / "killed").exists()
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / "out.work" / "parts").glob("*.part"))) == 3
    code, rest = mapped(after=-1)
    assert code == 3
    patients = len((tmp_path / "out").read_bytes().splitlines())
    assert len(rest) == len(set(rest)) < patients, "not those that are in finished parts"
    assert not (tmp_path / "out.work").exists()
    assert run(*command[:2], "--out", tmp_path / "whole")[0] == 3
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()


WRONG: list[tuple[str, list[str], str]] = [
    ("an unknown engine", ["--engine", "spark"], "use local, processes of this machine, or ray (pip install"),
    ("no Ray", ["--engine", "ray"], "ray is not installed: pip install 'riskcards[scale]'"),
    ("no worker", ["--workers", "0"], "0 is not in the range"),
    ("the data as the place for progress", ["--work", "charts"], "charts: holds other files; give --work a new"),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_wrong_use_says_what_to_do(
    run: Run, charts: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: list[str], message: str
) -> None:
    monkeypatch.chdir(charts.parent)
    monkeypatch.setitem(sys.modules, "ray", None)
    before = {path: path.read_bytes() for path in charts.iterdir()}
    for command in COMMANDS:
        code, said = run(*command, "charts", "--out", "out", *options)
        assert code == 2, name
        assert message in " ".join(said.replace("│", " ").split())
    assert {path: path.read_bytes() for path in charts.iterdir()} == before


@pytest.mark.skipif("TEST_CLUSTER" not in os.environ, reason="set TEST_CLUSTER=1: starts a Ray cluster of two nodes")
@pytest.mark.parametrize("command", COMMANDS, ids=[row[0] for row in COMMANDS])
def test_a_cluster_of_two_nodes_writes_what_one_worker_writes(
    run: Run, charts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    pytest.importorskip("ray")
    disable_telemetry()
    from ray.cluster_utils import Cluster

    code, _ = run(*command, charts, "--out", tmp_path / "one")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        assert run(*command, charts, "--out", tmp_path / "two", "--workers", 2, "--engine", "ray")[0] == code
    finally:
        cluster.shutdown()
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes() != b""
