"""The database of `mode`, `audit`, `outcomes`, `monitor` and `replay`: the running service's, and no unused one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cds_service.application.control_socket import ControlError, ControlSocket, ask, sockets
from cds_service.application.local_control import LocalControl, absolute, mark_in_use
from cds_service.cli import cli
from cds_service.commands.shared.running import ServiceDatabase, place_of
from cds_service.config.modes import Mode, ModeBoard
from cds_service.config.settings import Settings
from cds_service.store.errors import StoreError
from cds_service.store.schema import SERVICES
from cds_service.store.store import Store

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


class Worker:
    """One worker of a service: its store, modes and local socket, without pipeline and HTTP."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.store = settings.open_store()
        mark_in_use(self.store, settings)
        self.modes = ModeBoard(self.store, Mode.LIVE)
        parts: Any = SimpleNamespace(
            settings=settings,
            store=self.store,
            handler=SimpleNamespace(modes=self.modes),
            in_time=lambda step, *words: step(*words),
        )
        folder = Path(settings.run_folder)
        folder.mkdir(mode=0o700, exist_ok=True)
        self.socket = ControlSocket(folder, name, LocalControl(parts).answer)
        self.socket.start()

    def close(self) -> None:
        self.socket.close()
        self.store.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(database: str, name: str = "1-2", **changed: Any) -> Worker:
        url = f"sqlite:///{tmp_path / database}"
        started.append(Worker(Settings(database_url=url, run_folder=str(tmp_path / "run"), **changed), name))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


def test_the_kill_switch_without_config_reaches_the_running_service(
    serve: Callable[..., Worker], run: Run, tmp_path: Path
) -> None:
    """It wrote to another database, said that the kill switch was on, and the service went on showing cards."""
    worker, other = serve("of-the-service.db"), serve("of-the-service.db", "1-3")
    assert worker.modes.of("hospital-risk", None) is Mode.LIVE
    done = run("mode", "off", "--reason", "drill")
    assert done.exit_code == 0, done.output
    assert "of-the-service.db" in done.output
    assert "kill switch is on" in done.output
    assert worker.modes.of("hospital-risk", None) is other.modes.of("app", "north") is Mode.OFF, "and at once"
    (entry,) = worker.store.audit_entries("mode")
    assert entry.body is not None
    assert entry.body["reason"] == "drill"
    assert entry.body["by"]
    assert not (tmp_path / "data" / "riskcards" / "riskcards.db").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("mode",), ("mode", "off"), ("mode", "live"), ("audit", "verify"), ("audit", "head"), ("audit", "list"),
        ("audit", "export", "--fhir"), ("audit", "purge", "--older-than", "1"), ("monitor",), ("replay", "c1"),
        ("outcomes", "import", "{file}"),
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("given", ["nothing", "environment", "config"])
def test_a_database_that_no_service_has_used_is_refused_and_not_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], given: str
) -> None:
    file, table, config = tmp_path / "unused.db", tmp_path / "outcomes.csv", tmp_path / "c.json"
    table.write_text("card,task,happened\n")
    more: tuple[object, ...] = ()
    if given == "environment":
        monkeypatch.setenv("RISKCARDS_DATABASE_URL", f"sqlite:///{file}")
    elif given == "config":
        config.write_text(json.dumps({"database_url": f"sqlite:///{file}"}))
        more = ("--config", config)
    asked = [word.format(file=table) for word in words]
    refused = run(*asked, *more)
    assert refused.exit_code == 2
    assert "does not exist" in refused.output
    assert not file.exists()
    if given == "environment":
        Store(f"sqlite:///{file}").close()
        refused = run(*asked, *more)
        assert refused.exit_code == 2
        assert "no service has ever used it" in refused.output
        assert "kill switch is on" not in refused.output
        assert str(file) in refused.output


def test_a_stale_environment_is_refused_and_the_running_service_named(
    serve: Callable[..., Worker], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = serve("right.db", public_url="https://cds.example.org")
    stale = f"sqlite:///{tmp_path / 'stale.db'}"
    Store(stale).close()
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", stale)
    refused = run("mode", "off")
    assert refused.exit_code == 2
    assert "https://cds.example.org" in refused.output
    assert "right.db" in refused.output
    assert worker.modes.of("hospital-risk", None) is Mode.LIVE
    assert run("mode", "off", "--unused").exit_code == 0, "as asked, and the other service is named"
    assert worker.modes.of("hospital-risk", None) is Mode.LIVE


@pytest.mark.parametrize(
    ("age", "word", "code"), [(5, "mode", 0), (60, "mode", 2), (60, "audit", 0), (30_000, "audit", 2)]
)
def test_lately_is_minutes_for_a_mode_and_days_for_a_report(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: int, word: str, code: int
) -> None:
    url = f"sqlite:///{tmp_path / 'cards.db'}"
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", url)
    store = Store(url)
    store.services.mark("https://cds.example.org on h", {})
    with store._engine.begin() as connection:
        connection.execute(SERVICES.update().values(seen=datetime.now(UTC) - timedelta(minutes=age)))
    store.close()
    answer = run(*(("mode", "off") if word == "mode" else ("audit", "verify")))
    assert answer.exit_code == code, answer.output
    assert "https://cds.example.org" in answer.output or word == "audit"


def test_several_services_must_be_distinguished(serve: Callable[..., Worker], run: Run, tmp_path: Path) -> None:
    first, second = (
        serve("a.db", "1-2", public_url="https://a.example"),
        serve("b.db", "3-4", public_url="https://b.example"),
    )
    refused = run("mode", "off")
    assert refused.exit_code == 2
    assert "https://a.example" in refused.output
    assert "https://b.example" in refused.output
    config = tmp_path / "b.json"
    config.write_text(json.dumps({"database_url": f"sqlite:///{tmp_path / 'b.db'}"}))
    done = run("mode", "off", "--config", config)
    assert done.exit_code == 0, done.output
    assert "not changed: https://a.example" in done.output
    assert (first.modes.of("app", None), second.modes.of("app", None)) == (Mode.LIVE, Mode.OFF)


SAME_PLACE = [
    ("postgresql://a@db/cards", "postgres://b:secret@DB:5432/cards", True),
    ("postgresql://a@db/cards", "postgresql+psycopg://a@db/cards?sslmode=require", True),
    ("postgresql:///cards?host=/run/pg", "postgresql://u@/cards?host=/run/pg", True),
    ("postgresql://a@db/cards", "postgresql://a@db/other", False),
    ("postgresql://a@db/cards", "postgresql://a@db:5433/cards", False),
    ("postgresql://a@db/cards", "postgresql://a@db2/cards", False),
    ("sqlite:////srv/a/../cards.db", "sqlite:////srv/cards.db", True),
    ("sqlite:////srv/cards.db", "sqlite:////srv/Cards.db", False),
]


@pytest.mark.parametrize(("one", "other", "same"), SAME_PLACE)
def test_two_urls_of_one_database_are_one_place(one: str, other: str, *, same: bool) -> None:
    """With another user in the URL a service was said to be unchanged, which took the mode two seconds later."""
    assert (place_of(Settings(database_url=one)) == place_of(Settings(database_url=other))) is same


def test_a_symlinked_database_is_that_of_the_service(
    serve: Callable[..., Worker], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = serve("real.db")
    (tmp_path / "elsewhere").mkdir()
    for name in ("real.db", "real.db.key"):
        (tmp_path / "elsewhere" / name).symlink_to(tmp_path / name)
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", "sqlite:///real.db")
    done = run("mode", "off")
    assert (done.exit_code, "used by http" in done.output) == (0, True), done.output
    assert worker.modes.of("hospital-risk", None) is Mode.OFF, "at once, not two seconds later"


def test_a_service_that_has_the_mode_under_another_name_is_not_said_to_be_unchanged(
    serve: Callable[..., Worker], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hard link stands for a server with two names: the places differ, the database is one."""
    worker = serve("one.db")
    os.link(tmp_path / "one.db", tmp_path / "two.db")
    assert worker.store.modes() == {}
    monkeypatch.setenv("RISKCARDS_DATABASE_URL", f"sqlite:///{tmp_path / 'two.db'}")
    monkeypatch.setattr(ServiceDatabase, "opened", lambda *_: contextlib.nullcontext(worker.store))
    done = run("mode", "off")
    assert done.exit_code == 0, done.output
    assert "has these modes too: http" in done.output
    assert "not changed" not in done.output


def test_the_kill_switch_works_while_the_database_does_not(
    serve: Callable[..., Worker], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, other = serve("down.db"), serve("down.db", "1-3")

    def down(*_: Any) -> None:
        raise StoreError("the mode could not be recorded")

    with monkeypatch.context() as patch:
        patch.setattr(worker.store, "set_mode", down)
        patch.setattr(other.store, "set_mode", down)
        answer = run("mode", "off")
    assert answer.exit_code == 1
    assert "NOT in sqlite" in answer.output
    assert worker.modes.of("hospital-risk", None) is other.modes.of("app", None) is Mode.OFF
    with monkeypatch.context() as patch:
        patch.setattr(worker.store, "set_mode", down)
        patch.setattr(other.store, "set_mode", down)
        assert "not in force" in run("mode", "live").output
    assert worker.modes.of("hospital-risk", None) is Mode.OFF, "a `live` needs the database"
    assert run("mode", "live").exit_code == 0
    assert other.modes.of("hospital-risk", None) is Mode.LIVE
    assert worker.modes.of("hospital-risk", None) is Mode.LIVE


def test_a_task_is_switched_off_and_on(serve: Callable[..., Worker], run: Run) -> None:
    worker = serve("tasks.db")
    assert run("mode", "off", "--task", "readmission_30d").exit_code == 0
    assert worker.modes.active(("in_hospital_mortality", "readmission_30d"), None) == ("in_hospital_mortality",)
    listed = json.loads(run("mode", "--json").output)
    assert listed["set"] == [{"service": "task:readmission_30d", "tenant": "*", "mode": "off"}]
    assert "tasks.db" in listed["database"]
    assert run("mode", "live", "--task", "readmission_30d").exit_code == 0
    assert len(worker.modes.active(("in_hospital_mortality", "readmission_30d"), None)) == 2
    assert run("mode", "silent", "--task", "readmission_30d").exit_code == 2
    assert run("mode", "off", "--task", "readmission_30d", "--service", "hospital-risk").exit_code == 2


def _clients(tmp_path: Path, *tenants: list[str]) -> str:
    path = tmp_path / "clients.json"
    path.write_text(json.dumps({"clients": [{"name": f"c{n}", "tenants": each} for n, each in enumerate(tenants)]}))
    return str(path)


TENANTS: list[tuple[list[list[str]] | None, str, int, str]] = [
    ([["north", "south"]], "north", 0, "tenant north"),
    ([["north"], ["south"]], "south", 0, "tenant south"),
    ([["north", "south"]], "nroth", 2, "did you mean north?"),
    ([["north", "south"]], "North", 2, "no client of the service has the tenant"),
    ([["north"], []], "anything", 0, "tenant anything"),
    ([], "north", 2, "there are none"),
    ([["north"]], "", 2, "expected the tenant claim"),
    ([["north"]], "nor\x07th", 2, "expected the tenant claim"),
    ([["north"]], "*", 0, "kill switch is on"),
    (None, "anything", 0, "tenant anything"),
]


@pytest.mark.parametrize(("tenants", "given", "code", "words"), TENANTS)
def test_a_mode_for_a_tenant_that_no_client_has_is_refused(
    serve: Callable[..., Worker], run: Run, tmp_path: Path, tenants: list[list[str]] | None, given: str, code: int,
    words: str,
) -> None:  # fmt: skip
    """`off --tenant nroth` was stored and listed, and north went on showing cards."""
    changed = {} if tenants is None else {"cds_clients": _clients(tmp_path, *tenants)}
    worker = serve("tenants.db", **changed)
    answer = run("mode", "off", "--tenant", given)
    assert (answer.exit_code, words in answer.output) == (code, True), answer.output
    assert bool(worker.store.modes()) is (code == 0)


def test_the_socket_is_private_and_survives_nonsense(serve: Callable[..., Worker], tmp_path: Path) -> None:
    worker = serve("quiet.db")
    path = worker.socket.path
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for line in (b"", b"\n", b"[]\n", b"{\n", b'{"ask": "what"}\n', b'{"ask": "set-mode", "mode": "boo"}\n', b"\xff\n"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)
    assert worker.store.modes() == {}
    assert ask(path, {"ask": "modes"}) == {"modes": []}
    with pytest.raises(ControlError):
        ask(tmp_path / "run" / "gone.sock", {"ask": "modes"})


def test_a_folder_that_others_may_write_to_is_not_looked_into(
    serve: Callable[..., Worker], run: Run, tmp_path: Path
) -> None:
    """Another user could put a socket there that takes the kill switch and does nothing."""
    worker = serve("open.db")
    (tmp_path / "run").chmod(0o777)
    assert sockets(tmp_path / "run") == []
    assert run("mode", "off").exit_code == 2
    assert worker.modes.of("app", None) is Mode.LIVE


def test_a_folder_with_a_long_name_is_no_hindrance(tmp_path: Path) -> None:
    """A socket's address has 107 bytes."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir(mode=0o700)
    control = ControlSocket(folder, f"{os.getpid()}-{threading.get_ident()}", lambda question: {"heard": question})
    control.start()
    assert ask(control.path, {"ask": "x"}) == {"heard": {"ask": "x"}}
    control.close()
    assert sockets(folder) == []


def test_settings_of_a_service_are_valid_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = absolute(Settings(database_url="sqlite:///cards.db", models="models", cds_clients="clients.json"))
    assert answer.database_url == f"sqlite:///{tmp_path / 'cards.db'}"
    assert (answer.models, answer.cds_clients) == (str(tmp_path / "models"), str(tmp_path / "clients.json"))
    assert answer.database_key_file == str(tmp_path / "cards.db.key")
