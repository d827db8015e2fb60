"""Fixtures every test shares: a clean environment, no real network, and the development data where they are."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# One thread for each library in each process, and in those they start: `make test` runs one process to a core, and
# threads that spin while they wait for one another take a core from the other. Set before NumPy is imported.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

# Slow examples and slow data are no failures: the machine may be busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

REPOSITORY = Path(__file__).resolve().parents[1]
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
# Groups of folders whose tests share expensive fixtures: language models, a browser with a served demo, a service.
TOGETHER = (
    ("tests/risk_model/llm", "tests/risk_model/first_stage/", "tests/risk_model/prompts/"),
    ("tests/end_to_end/",),
    ("tests/cds_service/app_pages/",),
    ("tests/contract/",),
)
# What takes longest, longest first.
FIRST = (
    "tests/risk_model/llm",
    "tests/risk_model/first_stage/",
    "tests/risk_model/prompts/",
    "tests/end_to_end/",
    "tests/cds_service/commands/test_command_train_reader_killed.py",
    "tests/cds_service/demo/test_demo.py",
    "tests/cds_service/commands/test_commands_learning.py",
    "tests/risk_model/research/test_ehr_encoders.py",
    "tests/knowledge_index/sources/test_sources.py",
    "tests/fhir_mapping/notes/test_hostile_notes.py",
    "tests/cds_service/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`: a file's tests in one process, and so those of the folders of `TOGETHER`."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((folders[0] for folders in TOGETHER if file.startswith(folders)), file)

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of xdist what takes long comes first, so that no process is left with it at the end."""
    if hasattr(config, "workerinput"):
        places = {item: [n for n, place in enumerate(FIRST) if item.nodeid.startswith(place)] for item in items}
        items.sort(key=lambda item: min(places[item], default=len(FIRST)))


@pytest.fixture(scope="session", autouse=True)
def long_limits() -> Iterator[None]:
    """No time limit of the service passes because the machine is busy; processes that tests start inherit them."""
    from tests import patience  # imports NumPy

    with pytest.MonkeyPatch.context() as environment, patience.long_limits():
        for name, value in patience.SETTINGS.items():
            environment.setenv(name, value)
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's own shell reaches a test, and nothing is written outside its temporary folder."""
    from tests.patience import SETTINGS

    for name in os.environ:
        if name.startswith("RISKCARDS_") and name not in {"RISKCARDS_DATA", *SETTINGS}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    # No service that runs beside the tests is found, and told a mode.
    monkeypatch.setenv("RISKCARDS_RUN_FOLDER", str(tmp_path / "run"))


@pytest.fixture(autouse=True)
def no_real_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine fails the test that made it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data folder (`RISKCARDS_DATA`, default `../shared/data`); skips where it is absent."""
    folder = Path(os.environ.get("RISKCARDS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").exists():
        pytest.skip("development data absent: set RISKCARDS_DATA to run this test")
    return folder
