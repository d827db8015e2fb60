"""Reading ahead: a hook leaves unread notes, a worker has a language model read them, the next hook finds the readings.

    hook ── asks for ──▶ sealed "unread" ── read by `riskcards read-ahead` ──▶ sealed "reading" ──▶ next hook

Notes and readings are encrypted in the store with the service's key, named by a hash, and gone when read or expired.
A hook waits for the store a moment at most and for a model never.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cds_service.in_time import InTime
from cds_service.leases import Leases
from cds_service.settings import Settings
from cds_service.smart.vault import Vault, open_cipher
from cds_service.store import Store, StoreError
from fhir_mapping import Note
from risk_model import RuleNoteReader
from risk_model.errors import LanguageModelError
from risk_model.language.ahead import AheadNoteReader
from risk_model.language.kept import note_from_json, note_to_json, reading_from_json, reading_to_json
from risk_model.language.named import RULES, ReaderName, fingerprint
from risk_model.language.reader import LanguageNoteReader
from risk_model.pipeline import Wrap
from risk_model.reader import NoteReading
from risk_model.remembered import Remembered

LOG = logging.getLogger("riskcards")
UNREAD, READING, HELD = "unread", "reading", "held"
UNREAD_HOURS, READING_DAYS = 24, 30
PATIENCE = 0.3
"""Seconds a hook waits for readings from the store."""
MOST_ASKED = 512
ASKED_AGAIN_SECONDS = 300.0
ATTEMPTS = 3
LOOKED_THROUGH = 64
"""Waiting notes a worker looks at to find some that no other reads."""
LEASE_SECONDS = 30.0


def reading_ahead(settings: Settings, store: Store) -> Wrap | None:
    """What sets a language model's readings over the rules, as the settings say; None where rules alone read.

    Raises ModelArtifactError or MissingExtraError for a model that is not there, SmartSetupError for a bad key.
    """
    name = ReaderName.of(settings.note_reader)
    if name.kind == RULES:
        return None
    readings = SealedReadings(open_vault(settings, store))
    mark = fingerprint(name)

    def over(rules: RuleNoteReader) -> AheadNoteReader:
        return AheadNoteReader(settings.note_reader, mark, rules, readings)

    return over


def open_vault(settings: Settings, store: Store) -> Vault:
    return Vault(store.sealed, open_cipher(settings.session_key_path()))


class SealedReadings:
    """Readings in the store, those used last in memory too. A store that fails or is slow is as if it held none."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._known: Remembered[NoteReading] = Remembered(MOST_ASKED)
        self._asked: Remembered[float] = Remembered(4 * MOST_ASKED)
        self._left: queue.Queue[tuple[str, Note]] = queue.Queue(MOST_ASKED)
        self._steps = InTime(4)
        self._writing = threading.Lock()

    def get(self, keys: Sequence[str]) -> Mapping[str, NoteReading]:
        found = {key: known for key in keys if (known := self._known.get(key)) is not None}
        missing = [key for key in keys if key not in found]
        if missing:
            try:
                kept = self._steps.run(time.monotonic() + PATIENCE, self._vault.get_many, READING, missing)
                found |= {key: self._known.put(key, reading_from_json(raw)) for key, raw in kept.items()}
            except (StoreError, KeyError, TypeError, ValueError) as error:
                LOG.warning("readings not found: %s", error.__class__.__name__)
        return found

    def ask(self, wanted: Mapping[str, Note]) -> None:
        """Left for a thread of its own: an answer does not wait until a note is written down."""
        now = time.monotonic()
        for key, note in wanted.items():
            before = self._asked.get(key)
            if (before is None or now - before > ASKED_AGAIN_SECONDS) and not self._left.full():
                self._asked.put(key, now)
                self._left.put_nowait((key, note))
        if not self._left.empty():
            threading.Thread(target=self.write_down, name="read-ahead", daemon=True).start()

    def write_down(self) -> None:
        """What was asked for becomes entries of the store; what cannot be written is asked for again by a later hook.

        Several threads and workers may write the same note down: it is there once.
        """
        with self._writing:
            while not self._left.empty():
                key, note = self._left.get_nowait()
                expires = datetime.now(UTC) + timedelta(hours=UNREAD_HOURS)
                try:
                    self._vault.put(UNREAD, key, {"key": key, "note": note_to_json(note), "attempt": 1}, expires)
                except StoreError as error:
                    LOG.warning("a note was not left for reading: %s", error.__class__.__name__)


class ReadAhead:
    """ReadAhead(vault, reader, leases).step() -> True when there were notes to read

    A note stays in the store until its reading is kept. Who reads it holds a lease: of several workers one reads a
    note, and the notes of one that dies are read by the next.
    """

    def __init__(self, vault: Vault, reader: LanguageNoteReader, leases: Leases, batch: int = 1) -> None:
        self._vault, self._reader, self._leases, self._batch = vault, reader, leases, batch
        self.read = 0
        self.failed = 0

    def waiting(self) -> int:
        return self._vault.entries.count(UNREAD)

    def step(self) -> bool:
        """Have some notes read, keep the readings. A failing model gets a note again, `ATTEMPTS` times in all; so does
        a worker that dies of one.

        Raises StoreError.
        """
        taken = self._claimed()
        if not taken:
            return False
        try:
            found = self._reader.read_many([note_from_json(value["note"]) for value in taken.values()])
            for (place, value), reading in zip(taken.items(), found, strict=True):
                self._done(place, value, reading)
        finally:
            for place in taken:
                self._leases.release(place)
        return True

    def _claimed(self) -> dict[str, dict[str, Any]]:
        """The oldest notes that nobody else is reading, by their place in the store."""
        found: dict[str, dict[str, Any]] = {}
        for place in self._vault.entries.oldest(UNREAD, LOOKED_THROUGH):
            if len(found) == self._batch:
                break
            if not self._leases.claim(place):
                continue
            value = self._wanted(place)
            if value is None:
                self._leases.release(place)
            else:
                found[place] = value
        return found

    def _wanted(self, place: str) -> dict[str, Any] | None:
        """The note of a place that was claimed, with one more attempt counted; None where there is nothing to read."""
        value = self._vault.at(UNREAD, place)
        if value is None:
            return None  # another has read it, or it was left with a key that is not ours
        if value["attempt"] > ATTEMPTS or self._vault.get(READING, value["key"]) is not None:
            self._vault.entries.drop(UNREAD, place)
            return None
        expires = datetime.now(UTC) + timedelta(hours=UNREAD_HOURS)
        self._vault.replace(UNREAD, value["key"], value | {"attempt": value["attempt"] + 1}, expires)
        return value

    def _done(self, place: str, value: Mapping[str, Any], reading: NoteReading | LanguageModelError) -> None:
        if isinstance(reading, LanguageModelError):
            self.failed += 1
            LOG.warning("a note was not read: %s (attempt %d of %d)", reading.reason, value["attempt"], ATTEMPTS)
            if value["attempt"] >= ATTEMPTS:
                self._vault.entries.drop(UNREAD, place)
            return
        kept_until = datetime.now(UTC) + timedelta(days=READING_DAYS)
        self._vault.put(READING, value["key"], reading_to_json(reading), kept_until)
        self._vault.entries.drop(UNREAD, place)
        self.read += 1
