"""Reading ahead: a hook queues notes for a language model, a worker has them read, the next hook finds the findings.

    hook ── queues ──▶ sealed "unread" ── read by `riskcards read-ahead` ──▶ sealed "reading" ──▶ next hook

There are two kinds of jobs, each with its own queue: notes to read, and windows of notes for the opinion of a
first-stage language model. Jobs and answers are encrypted in the store with the service's key, named by a hash, and
deleted when answered or expired. A hook waits at most PATIENCE seconds for the store and never for a model.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from artifact_store import MemoryCache
from cds_service.access.deadlines import DeadlineRunner
from cds_service.background.language_models import stage1_name
from cds_service.background.leases import Leases
from cds_service.config.settings import Settings
from cds_service.oauth.vault import Vault, open_cipher
from cds_service.store.errors import StoreError
from cds_service.store.store import Store
from fhir_mapping import Note
from risk_model import RiskModel, RuleNoteReader
from risk_model.core import LanguageModelError
from risk_model.first_stage import DeferredOpinions
from risk_model.llm import RULES, ReaderName, model_fingerprint
from risk_model.llm_reader import (
    DeferredNoteReader,
    note_from_json,
    note_to_json,
    question_from_json,
    question_to_json,
    reading_from_json,
    reading_to_json,
)
from risk_model.notes import NoteReading
from risk_model.pipeline import NoteReaderWrapper, OpinionSourceFactory
from risk_model.prompts import Opinion, RiskPrompt

LOG = logging.getLogger("riskcards")
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
UNREAD, READING, OPINION, HELD = "unread", "reading", "opinion", "held"
UNREAD_HOURS, ANSWER_DAYS = 24, 30
PATIENCE = 0.3
"""Seconds that a hook waits for answers from the store."""
MOST_ASKED = 512
ASKED_AGAIN_SECONDS = 300.0
ATTEMPTS = 3
LOOKED_THROUGH = 64
"""Jobs that a worker examines to find unclaimed ones."""
LEASE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class JobQueue(Generic[Asked, Answer]):
    """One kind of job in the store: the kinds of its entries, and the JSON forms of a job and of its answer."""

    unread: str
    read: str
    asked_to_json: Callable[[Asked], dict[str, Any]]
    asked_from_json: Callable[[Mapping[str, Any]], Asked]
    answer_to_json: Callable[[Answer], dict[str, Any]]
    answer_from_json: Callable[[Mapping[str, Any]], Answer]


NOTES: JobQueue[Note, NoteReading] = JobQueue(
    UNREAD,
    READING,
    lambda note: {"note": note_to_json(note)},
    lambda value: note_from_json(value["note"]),
    reading_to_json,
    reading_from_json,
)


def windows_for(mark: str) -> JobQueue[RiskPrompt, Opinion]:
    """The queue of prompts for one first-stage language model, named by its fingerprint `mark`.

    A worker takes only jobs that its model can answer; jobs for a model that is no longer served expire.
    """
    return JobQueue(
        f"ask:{mark[:12]}",
        OPINION,
        lambda prompt: {"question": question_to_json(prompt)},
        lambda value: question_from_json(value["question"]),
        Opinion.to_json,
        Opinion.from_json,
    )


def deferred_reading(settings: Settings, store: Store) -> NoteReaderWrapper | None:
    """The lookup of a language model's readings, as set in the settings; None if only rules read.

    Raises ModelArtifactError or MissingExtraError for a missing model, SmartSetupError for an invalid key.
    """
    name = ReaderName.of(settings.note_reader)
    if name.kind == RULES:
        return None
    readings = SealedAnswers(open_vault(settings, store), NOTES)
    mark = model_fingerprint(name)

    def over(rules: RuleNoteReader) -> DeferredNoteReader:
        return DeferredNoteReader(settings.note_reader, mark, rules, readings)

    return over


def deferred_asking(settings: Settings, store: Store) -> OpinionSourceFactory:
    """The lookup of the opinions of first-stage language models that are ready.

    Raises ModelArtifactError or MissingExtraError for a model that is missing or not the one used in training,
    SmartSetupError for an invalid key.
    """
    known: dict[str, SealedAnswers[RiskPrompt, Opinion]] = {}

    def listen(model: RiskModel) -> DeferredOpinions:
        stage1_name(settings, model)
        assert model.asks is not None
        mark = model.asks.fingerprint
        if mark not in known:
            known[mark] = SealedAnswers(open_vault(settings, store), windows_for(mark))
        return DeferredOpinions(mark, model.question, known[mark], evidence=model.asks.evidence)

    return listen


def open_vault(settings: Settings, store: Store) -> Vault:
    return Vault(store.sealed, open_cipher(settings.session_key_path()))


class SealedAnswers(Generic[Asked, Answer]):
    """Answers in the store, recent ones also in memory; none if the store fails or is slow."""

    def __init__(self, vault: Vault, jobs: JobQueue[Asked, Answer]) -> None:
        self._vault, self._jobs = vault, jobs
        self._known: MemoryCache[Answer] = MemoryCache(MOST_ASKED)
        self._asked: MemoryCache[float] = MemoryCache(4 * MOST_ASKED)
        self._left: queue.Queue[tuple[str, Asked]] = queue.Queue(MOST_ASKED)
        self._steps = DeadlineRunner(4)
        self._writing = threading.Lock()

    def get(self, keys: Sequence[str]) -> Mapping[str, Answer]:
        found = {key: known for key in keys if (known := self._known.get(key)) is not None}
        missing = [key for key in keys if key not in found]
        if missing:
            try:
                until, jobs = time.monotonic() + PATIENCE, self._jobs
                there = self._steps.run(until, self._vault.get_many, jobs.read, missing)
                found |= {key: self._known.put(key, jobs.answer_from_json(raw)) for key, raw in there.items()}
            except (StoreError, LanguageModelError, KeyError, TypeError, ValueError) as error:
                LOG.warning("%s not found: %s", self._jobs.read, error.__class__.__name__)
        return found

    def ask(self, wanted: Mapping[str, Asked]) -> None:
        """Queues jobs in a thread of their own: no card waits for that."""
        now = time.monotonic()
        for key, asked in wanted.items():
            before = self._asked.get(key)
            if (before is None or now - before > ASKED_AGAIN_SECONDS) and not self._left.full():
                self._asked.put(key, now)
                self._left.put_nowait((key, asked))
        if not self._left.empty():
            threading.Thread(target=self.write_down, name="read-ahead", daemon=True).start()

    def write_down(self) -> None:
        """Writes jobs to the store; a later hook asks again for those that could not be written.

        Several threads and workers may write the same job: it is stored once.
        """
        with self._writing:
            while not self._left.empty():
                key, asked = self._left.get_nowait()
                value = {"key": key, "attempt": 1, **self._jobs.asked_to_json(asked)}
                expires = datetime.now(UTC) + timedelta(hours=UNREAD_HOURS)
                try:
                    self._vault.put(self._jobs.unread, key, value, expires)
                except StoreError as error:
                    LOG.warning("a note was not left for reading: %s", error.__class__.__name__)


@dataclass(frozen=True, slots=True)
class QueueWorker(Generic[Asked, Answer]):
    """A queue with the model that answers its jobs; `answers` returns an answer or an error for each job."""

    jobs: JobQueue[Asked, Answer]
    answers: Callable[[Sequence[Asked]], Sequence[Answer | LanguageModelError]]
    batch: int = 1
    """Jobs per call of `answers`."""


class ReadAhead:
    """ReadAhead(vault, workers, leases).step() -> True if there were jobs

    A job stays in the store until its answer is stored. A worker leases the jobs it works on: only one worker answers
    a job, and the jobs of a worker that dies are answered by another.
    """

    def __init__(self, vault: Vault, workers: Sequence[QueueWorker[Any, Any]], leases: Leases) -> None:
        self._vault, self._workers, self._leases = vault, tuple(workers), leases
        self.read = 0
        self.failed = 0

    def waiting(self) -> int:
        return sum(self._vault.entries.count(worker.jobs.unread) for worker in self._workers)

    def step(self) -> bool:
        """Answers a batch of each queue. A job on which the model or the worker fails is tried `ATTEMPTS` times in all.

        Raises StoreError.
        """
        worked = [
            self._worked(worker) for worker in self._workers
        ]  # a batch of every queue, even if the first had jobs
        return any(worked)

    def _worked(self, worker: QueueWorker[Any, Any]) -> bool:
        taken = self.claimed(worker)
        try:
            asked = {place: self._opened(worker, place, value) for place, value in taken.items()}
            there = {place: item for place, item in asked.items() if item is not None}
            for (place, _), answer in zip(there.items(), worker.answers(list(there.values())), strict=True):
                self._done(worker, place, taken[place], answer)
        finally:
            for place in taken:
                self._leases.release(place)
        return bool(taken)

    def claimed(self, worker: QueueWorker[Any, Any]) -> dict[str, dict[str, Any]]:
        """The oldest jobs that no other worker has leased, by fingerprint."""
        found: dict[str, dict[str, Any]] = {}
        for place in self._vault.entries.oldest(worker.jobs.unread, LOOKED_THROUGH):
            if len(found) == worker.batch:
                break
            if not self._leases.claim(place):
                continue
            value = self._wanted(worker, place)
            if value is None:
                self._leases.release(place)
            else:
                found[place] = value
        return found

    def _wanted(self, worker: QueueWorker[Any, Any], place: str) -> dict[str, Any] | None:
        """A leased job with one more attempt counted; None if it needs no answer."""
        unread = worker.jobs.unread
        value = self._vault.at(unread, place)
        if value is None:
            return None  # already answered, or encrypted with another key
        if value["attempt"] > ATTEMPTS or self._vault.get(worker.jobs.read, value["key"]) is not None:
            self._vault.entries.drop(unread, place)
            return None
        expires = datetime.now(UTC) + timedelta(hours=UNREAD_HOURS)
        self._vault.replace(unread, value["key"], value | {"attempt": value["attempt"] + 1}, expires)
        return value

    def _opened(self, worker: QueueWorker[Any, Any], place: str, value: Mapping[str, Any]) -> Any | None:
        """The decoded job; None, and deleted, if another version wrote it: its hooks will ask again."""
        try:
            return worker.jobs.asked_from_json(value)
        except (KeyError, TypeError, ValueError) as error:
            LOG.warning("an entry of another version was dropped: %s", error.__class__.__name__)
            self._vault.entries.drop(worker.jobs.unread, place)
            return None

    def _done(
        self, worker: QueueWorker[Any, Any], place: str, value: Mapping[str, Any], answer: object | LanguageModelError
    ) -> None:
        unread = worker.jobs.unread
        if isinstance(answer, LanguageModelError):
            self.failed += 1
            LOG.warning("%s: not read: %s (attempt %d of %d)", unread, answer.reason, value["attempt"], ATTEMPTS)
            if value["attempt"] >= ATTEMPTS:
                self._vault.entries.drop(unread, place)
            return
        until = datetime.now(UTC) + timedelta(days=ANSWER_DAYS)
        self._vault.put(worker.jobs.read, value["key"], worker.jobs.answer_to_json(answer), until)
        self._vault.entries.drop(unread, place)
        self.read += 1
