"""Reading ahead: a hook leaves unread notes, a worker has a language model read them, the next hook finds the readings.

    hook ── asks for ──▶ sealed "unread" ── taken by `riskcards read-ahead` ──▶ sealed "reading" ──▶ next hook

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

from cds_service.in_time import InTime
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
UNREAD, READING = "unread", "reading"
UNREAD_HOURS, READING_DAYS = 24, 30
PATIENCE = 0.3
"""Seconds a hook waits for readings from the store."""
MOST_ASKED = 512
ASKED_AGAIN_SECONDS = 300.0
ATTEMPTS = 3


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
    """ReadAhead(vault, reader).step() -> True when there was a note to read"""

    def __init__(self, vault: Vault, reader: LanguageNoteReader) -> None:
        self._vault, self._reader = vault, reader
        self.read = 0
        self.failed = 0

    def waiting(self) -> int:
        return self._vault.entries.count(UNREAD)

    def step(self) -> bool:
        """Take one note, have it read, keep the reading. A failing model gets it again, `ATTEMPTS` times in all.

        Raises StoreError.
        """
        taken = self._vault.take_oldest(UNREAD)
        if taken is None:
            return False
        key, attempt = str(taken["key"]), int(taken["attempt"])
        if self._vault.get(READING, key) is not None:
            return True
        try:
            reading = self._reader.read_note(note_from_json(taken["note"]))
        except LanguageModelError as error:
            self.failed += 1
            LOG.warning("a note was not read: %s (attempt %d of %d)", error.reason, attempt, ATTEMPTS)
            if attempt < ATTEMPTS:
                expires = datetime.now(UTC) + timedelta(hours=UNREAD_HOURS)
                self._vault.put(UNREAD, key, taken | {"attempt": attempt + 1}, expires)
            return True
        self._vault.put(READING, key, reading_to_json(reading), datetime.now(UTC) + timedelta(days=READING_DAYS))
        self.read += 1
        return True
