"""A hook never waits for a language model; the next hook has the model's findings."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select, text, update

from cds_service.application.factory import create_app
from cds_service.background import read_ahead
from cds_service.background.leases import Leases
from cds_service.background.read_ahead import (
    HELD,
    NOTES,
    READING,
    UNREAD,
    QueueWorker,
    ReadAhead,
    SealedAnswers,
    open_vault,
)
from cds_service.cli import cli
from cds_service.config.settings import Settings
from cds_service.store.errors import StoreError
from cds_service.store.schema import SEALED
from cds_service.store.store import Store
from fhir_mapping import PatientRecord
from knowledge_index import KnowledgeIndex
from risk_model import Pipeline, RuleNoteReader
from risk_model.llm.registry import ReaderName, model_fingerprint
from risk_model.llm_reader.deferred_reader import DeferredNoteReader
from risk_model.llm_reader.note_reader import LanguageNoteReader
from risk_model.llm_reader.serialization import note_from_json, reading_from_json, reading_to_json
from risk_model.notes.reading import NoteReading
from risk_model.prompts.answers import AnswerFinding, ReaderAnswer
from risk_model.prompts.note_prompt import Prompt
from tests.cds_service.model_server import model_server
from tests.contract.conftest import whole_request
from tests.patience import PATIENT, POLLED, patient, until
from tests.risk_model.language_fakes import SaysModel, breaks, rambles, refuses
from tests.risk_model.models.test_estimator import home
from tests.risk_model.note_texts import TEXT, note

SAID = ReaderAnswer((AnswerFinding("pnuemonia", "Pneumonia"),)).to_text()
URL = "/cds-services/readmission-30d"


@pytest.fixture
def discharge() -> dict[str, Any]:
    return whole_request("diabetic-heart-failure-discharge")


@pytest.fixture(scope="module")
def index() -> KnowledgeIndex:
    return KnowledgeIndex.open_starter()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    given = Settings(
        database_url=f"sqlite:///{tmp_path / 'cards.db'}", session_key_file=str(tmp_path / "session.key"),
        note_reader="http://127.0.0.1:9/v1#small",
    )  # fmt: skip
    return patient(given)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    opened = Store(settings.store_url())
    yield opened
    opened.close()


def leases_of(store: Store) -> Leases:
    return Leases(store.sealed, HELD, PATIENT)


def expire_leases(store: Store) -> None:
    """Expires the leases, as if their workers had died."""
    with store._engine.begin() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(SEALED).where(SEALED.c.kind == HELD).values(expires=past))


def desk_of(reader: LanguageNoteReader) -> QueueWorker[Any, Any]:
    return QueueWorker(NOTES, reader.read_many)


class Bench:
    """A hook's reader and a worker over the same store."""

    def __init__(self, settings: Settings, store: Store, index: KnowledgeIndex, say: Any) -> None:
        self.vault = open_vault(settings, store)
        self.readings = SealedAnswers(self.vault, NOTES)
        self.rules = RuleNoteReader(index, embed=False)
        self.hook = DeferredNoteReader("small", "f", self.rules, self.readings)
        self.reader = LanguageNoteReader(SaysModel(say), self.rules)
        self.worker = ReadAhead(self.vault, [desk_of(self.reader)], leases_of(store))

    def asked(self) -> None:
        """Waits until the jobs of the hook are stored."""
        self.readings.write_down()


def test_the_rules_answer_now_and_the_model_next_time(settings: Settings, store: Store, index: KnowledgeIndex) -> None:
    bench = Bench(settings, store, index, lambda _: SAID)
    first = bench.hook.read([note()])
    assert first.findings == bench.rules.read([note()]).findings
    assert (first.language_notes, first.waiting) == (0, 1)
    bench.asked()
    assert bench.worker.waiting() == 1
    assert bench.worker.step()
    assert not bench.worker.step()
    again = bench.hook.read([note(source="DocumentReference/9"), note("Known asthma.")])
    assert {f.name for f in again.findings if f.note_source == "DocumentReference/9"} == {"Pneumonia"}
    assert (again.language_notes, again.waiting, again.reader) == (1, 1, "language:small")


def test_another_process_finds_the_reading(settings: Settings, store: Store, index: KnowledgeIndex) -> None:
    bench = Bench(settings, store, index, lambda _: SAID)
    bench.hook.read([note()])
    bench.asked()
    bench.worker.step()
    assert Bench(settings, store, index, breaks).hook.read([note()]).language_notes == 1


def test_nothing_of_a_note_is_readable_in_the_database(settings: Settings, store: Store, index: KnowledgeIndex) -> None:
    """The note itself is deleted when it was read."""
    bench = Bench(settings, store, index, lambda _: SAID)
    bench.hook.read([note()])
    bench.asked()

    def kept() -> list[tuple[str, str, str]]:
        with store._engine.connect() as connection:
            rows = connection.execute(text("select kind, fingerprint, body from sealed"))
            return [(row.kind, row.fingerprint, row.body) for row in rows]

    assert [kind for kind, _, _ in kept()] == [UNREAD]
    bench.worker.step()
    assert [kind for kind, _, _ in kept()] == [READING]
    assert not any(word in f"{name}{body}" for _, name, body in kept() for word in ("CHF", "pnuemonia", "Pneumonia"))


@pytest.mark.parametrize("say", [refuses, breaks, rambles])
def test_a_failing_model_is_retried_a_limited_number_of_times(
    settings: Settings, store: Store, index: KnowledgeIndex, say: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(settings, store, index, say)
    bench.hook.read([note()])
    bench.asked()
    while bench.worker.step():
        pass
    assert (bench.worker.read, bench.worker.failed, bench.worker.waiting()) == (0, 3, 0)
    assert bench.hook.read([note()]).findings == bench.rules.read([note()]).findings
    assert "SECRET" not in caplog.text
    assert "CHF" not in caplog.text


def test_a_hanging_model_blocks_no_hook(settings: Settings, store: Store, index: KnowledgeIndex) -> None:
    """The hook answers while the worker waits in a call that does not return."""
    called, done = threading.Event(), threading.Event()

    def hang(_: Prompt) -> str:
        called.set()
        done.wait(PATIENT)
        return SAID

    bench = Bench(settings, store, index, hang)
    bench.hook.read([note()])
    bench.asked()
    worker = threading.Thread(target=bench.worker.step, daemon=True)
    worker.start()
    assert called.wait(POLLED)
    assert bench.hook.read([note(), note("Known asthma.")]).waiting == 2
    assert worker.is_alive()
    done.set()
    worker.join(POLLED)
    assert bench.hook.read([note()]).language_notes == 1


def test_a_failing_or_hanging_store_has_no_readings(index: KnowledgeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store answers no sooner than the hook: a hook that waited for it would never answer."""
    answered = threading.Event()

    class Broken:
        def get_many(self, *_: object) -> dict[str, Any]:
            raise StoreError("down")

        def put(self, *_: object) -> bool:
            raise StoreError("down")

    class Hanging(Broken):
        def get_many(self, *_: object) -> dict[str, Any]:
            assert answered.wait(POLLED)
            return {}

    monkeypatch.setattr(read_ahead, "PATIENCE", 0.2)
    rules = RuleNoteReader(index, embed=False)
    for vault in (Broken(), Hanging()):
        readings = SealedAnswers(vault, NOTES)  # type: ignore[arg-type]
        found = DeferredNoteReader("small", "f", rules, readings).read([note()])
        assert not answered.is_set()
        assert (found.language_notes, found.waiting) == (0, 1)
        readings.write_down()
    answered.set()


def test_one_of_several_workers_reads_a_note(settings: Settings, store: Store, index: KnowledgeIndex) -> None:
    model = SaysModel(lambda _: SAID)
    bench = Bench(settings, store, index, None)
    texts = [f"{TEXT} Bed {n}." for n in range(12)]
    bench.hook.read([note(words) for words in texts])
    bench.asked()
    workers = [
        ReadAhead(bench.vault, [desk_of(LanguageNoteReader(model, bench.rules))], leases_of(store)) for _ in range(4)
    ]

    def work(worker: ReadAhead) -> None:
        while worker.step():
            pass

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(POLLED)
    assert sum(worker.read for worker in workers) == model.asked == 12


def test_an_expired_note_is_not_read(settings: Settings, store: Store, index: KnowledgeIndex) -> None:
    bench = Bench(settings, store, index, lambda _: SAID)
    bench.vault.put(UNREAD, "k", {"key": "k"}, datetime.now(UTC) - timedelta(seconds=1))
    assert not bench.worker.step()


def test_a_reading_survives_a_round_trip(index: KnowledgeIndex) -> None:
    import orjson

    rules = RuleNoteReader(index, embed=False)
    reading = rules.read_note(note(TEXT + "GCS 8, on 4 L oxygen."))
    whole = NoteReading(reading.findings, reading.values, 2, by_language_model=True, cited=("1", "2"), cited_dropped=1)
    assert reading_from_json(orjson.loads(orjson.dumps(reading_to_json(whole)))) == whole
    with pytest.raises((KeyError, TypeError, ValueError)):
        reading_from_json({"findings": [{"concept_ui": "x"}], "values": []})


def test_a_card_names_its_reader_and_a_second_card_has_the_models_reading(
    settings: Settings, discharge: dict[str, Any]
) -> None:
    """End to end with service, store, command and model server; a server that is down blocks nothing."""
    with model_server(ReaderAnswer().to_text()) as server:
        asked = settings.with_changes(note_reader=f"{server.url}#small")
        app = create_app(asked)
        client = app.test_client()
        first = client.post(URL, json=discharge).get_json()["cards"][0]
        assert "not read by the language model yet" in first["detail"]
        readings = app.extensions["riskcards"].pipeline.reader._readings
        readings.write_down()
        env = {
            "RISKCARDS_DATABASE_URL": asked.database_url, "RISKCARDS_SESSION_KEY_FILE": asked.session_key_file,
            "RISKCARDS_NOTE_READER": asked.note_reader,
        }  # fmt: skip
        server.behaviour = "500"
        failed = CliRunner().invoke(cli, ["read-ahead", "--once"], env=env)
        assert failed.exit_code == 0, failed.output
        assert "0 read" in failed.output
        assert "not read by the language model yet" in client.post(URL, json=discharge).get_json()["cards"][0]["detail"]
        readings._asked._known.clear()
        client.post(URL, json=discharge)
        readings.write_down()
        server.behaviour = "well"
        store, answered = app.extensions["riskcards"].store, server.answered
        store.set_mode("*", "*", "off", "kill switch")
        idle = CliRunner().invoke(cli, ["read-ahead", "--once"], env=env)
        assert (idle.exit_code, "0 read" in idle.output, server.answered) == (0, True, answered), idle.output
        store.set_mode("*", "*", "live", "")
        done = CliRunner().invoke(cli, ["read-ahead", "--once"], env=env)
        assert done.exit_code == 0, done.output
        assert "0 attempts failed" in done.output
        second = client.post(URL, json=discharge).get_json()["cards"][0]
        assert "the language model small" in second["detail"]
        assert second["indicator"] == first["indicator"]


def test_a_rule_reader_has_nothing_to_read_ahead(settings: Settings) -> None:
    env = {"RISKCARDS_DATABASE_URL": settings.database_url, "RISKCARDS_NOTE_READER": "rules"}
    assert CliRunner().invoke(cli, ["read-ahead", "--once"], env=env).exit_code == 2


def test_a_command_reads_at_once(index: KnowledgeIndex) -> None:
    record: PatientRecord = home()
    pipeline = Pipeline.shipped(wrap=lambda rules: LanguageNoteReader(SaysModel(refuses), rules))
    assessment = pipeline.assess(record, "readmission_30d")
    assert assessment.estimate.probability is not None
    assert assessment.findings.language_failed > 0


def test_a_worker_that_dies_at_any_step_loses_no_note_and_reads_none_twice(
    settings: Settings, store: Store, index: KnowledgeIndex
) -> None:
    """Killed before reading, or between storing the reading and deleting the note: the next worker completes it."""
    model = SaysModel(lambda _: SAID)
    bench = Bench(settings, store, index, None)
    bench.hook.read([note(f"{TEXT} Bed {n}.") for n in range(2)])
    bench.asked()
    desk = desk_of(LanguageNoteReader(model, bench.rules))
    dead = ReadAhead(bench.vault, [desk], leases_of(store))
    assert len(dead.claimed(desk)) == 1
    first = dead.claimed(desk)
    (reading,) = desk.answers([note_from_json(next(iter(first.values()))["note"])])
    key = next(iter(first.values()))["key"]
    bench.vault.put(READING, key, reading_to_json(reading), datetime.now(UTC) + timedelta(days=1))
    expire_leases(store)
    heir = ReadAhead(bench.vault, [desk_of(LanguageNoteReader(model, bench.rules))], leases_of(store))
    while heir.step():
        pass
    assert (heir.read, heir.waiting(), model.asked) == (1, 0, 2)


def test_a_note_that_kills_workers_is_dropped(settings: Settings, store: Store, index: KnowledgeIndex) -> None:
    bench = Bench(settings, store, index, lambda _: SAID)
    bench.hook.read([note()])
    bench.asked()
    for _ in range(3):
        desk = desk_of(bench.reader)
        assert ReadAhead(bench.vault, [desk], leases_of(store)).claimed(desk)
        expire_leases(store)
    assert not bench.worker.step()
    assert bench.worker.waiting() == 0


def test_a_running_worker_renews_its_leases(store: Store) -> None:
    """During a reading longer than the lease, the lease is renewed and no other worker gets the note."""

    def ends() -> str:
        with store._engine.connect() as connection:
            return str(connection.execute(select(SEALED.c.expires).where(SEALED.c.kind == HELD)).scalar_one())

    waits: list[float | None] = []

    class Often(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return super().wait(PATIENT / 100_000)

    leases = leases_of(store)
    leases._over = Often()
    with leases as slow:
        assert slow.claim("a")
        first = ends()
        assert until(lambda: ends() > first)
        assert set(waits) == {PATIENT / 3}
        assert not leases_of(store).claim("a")
    assert leases_of(store).claim("a")


def test_a_worker_killed_in_the_middle_of_a_queue_loses_nothing_and_nothing_is_read_twice(
    settings: Settings, store: Store, index: KnowledgeIndex, tmp_path: Path
) -> None:
    """Real processes: SIGKILL while the model server holds back the fourth answer; another worker continues."""
    with model_server(SAID) as server:
        asked = settings.with_changes(note_reader=f"{server.url}#small")
        readings = SealedAnswers(open_vault(asked, store), NOTES)
        mark = model_fingerprint(ReaderName.of(asked.note_reader))
        hook = DeferredNoteReader(asked.note_reader, mark, RuleNoteReader(index, embed=False), readings)
        texts = [f"{TEXT} Bed {n}." for n in range(8)]
        hook.read([note(words) for words in texts])
        readings.write_down()
        env = os.environ | {
            "RISKCARDS_DATABASE_URL": asked.database_url, "RISKCARDS_SESSION_KEY_FILE": asked.session_key_file,
            "RISKCARDS_NOTE_READER": asked.note_reader,
        }  # fmt: skip
        worker = [sys.executable, "-m", "cds_service.cli", "read-ahead", "--once", "--lease", "2"]
        server.hold_from = 4
        first = subprocess.Popen(worker, env=env, stderr=subprocess.PIPE)
        assert server.holding.wait(PATIENT)
        first.kill()
        first.communicate()
        answered = server.answered
        server.hold_from = None
        second = subprocess.run(worker, env=env, capture_output=True, timeout=PATIENT, text=True, check=True)
    assert answered == 3
    assert "5 read, 0 attempts failed" in second.stderr
    assert server.answered == 8  # each once: the held answer never came
    found = DeferredNoteReader(
        asked.note_reader, mark, RuleNoteReader(index, embed=False), SealedAnswers(readings._vault, NOTES)
    )
    assert found.read([note(words) for words in texts]).language_notes == 8
