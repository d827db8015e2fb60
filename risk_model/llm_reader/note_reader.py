"""Reads notes with a language model, window by window, and keeps only what the note itself supports.

    LanguageNoteReader(LocalLanguageModel(), RuleNoteReader(index)).read(record.notes()) -> NoteFindings

Where the model gives no usable answer for a note, the rules read it, and the findings say so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Protocol

import orjson

from artifact_store import MemoryCache
from fhir_mapping import Note
from knowledge_index import Evidence, KnowledgeIndex, Query, RetrievalError
from risk_model.core.errors import LanguageModelError
from risk_model.core.values import NoteFindings
from risk_model.llm.backend import MAX_TOKENS, AnswersMany, LanguageModel
from risk_model.llm_reader.anchoring import Anchored
from risk_model.notes.rule_reader import NoteReading, RuleNoteReader, is_finding, read_each
from risk_model.prompts.answers import ReaderAnswer, complete_json
from risk_model.prompts.note_prompt import MAX_PASSAGES, Prompt, Window, passages, windows

REMEMBERED = 512
SEEDS = 3
PROMPT_VERSION = "1"


class KnownReadings(Protocol):
    """Readings by `reading_key`; `put` gives back what it was given."""

    def get(self, key: str, /) -> NoteReading | None: ...

    def put(self, key: str, value: NoteReading, /) -> NoteReading: ...


class LanguageNoteReader:
    """LanguageNoteReader(model, rules).read(notes) -> NoteFindings, what the note says and nothing else

    `note_seconds` bounds the time for one note. Without `evidence` beside the notes each window gets passages of the
    index on what it mentions; `with_evidence=False` gives none. Readings are remembered by content and model, in memory
    or in what `known` is (see `readings.ReadingsFile`).
    """

    def __init__(
        self,
        model: LanguageModel,
        rules: RuleNoteReader,
        *,
        note_seconds: float | None = None,
        with_evidence: bool = True,
        max_tokens: int = MAX_TOKENS,
        known: KnownReadings | None = None,
    ) -> None:
        self.model = model
        self.rules = rules
        self._note_seconds = note_seconds
        self._with_evidence = with_evidence
        self._max_tokens = max_tokens
        self._known: KnownReadings = MemoryCache(REMEMBERED) if known is None else known

    @property
    def name(self) -> str:
        """What a model trained on these readings keeps as its reader."""
        return f"language:{self.model.name}"

    def read(self, notes: Sequence[Note], evidence: Sequence[Evidence] = ()) -> NoteFindings:
        """Never raises for a failing model: its notes are then read by the rules, and counted."""

        def read(note: Note) -> NoteReading:
            try:
                return self.read_note(note, evidence)
            except LanguageModelError:
                return replace(self.rules.read_note(note), failed=True)

        return read_each(self.name, notes, read, self.rules.embedding)

    def read_note(self, note: Note, evidence: Sequence[Evidence] = ()) -> NoteReading:
        """One note, all of it: one window without an answer, and there is no reading. Raises LanguageModelError."""
        key = reading_key(self.model.fingerprint, note, [item.pmid for item in evidence])
        known = self._known.get(key)
        if known is None:
            known = self._known.put(key, self._asked(note, evidence))
        return known.of(note.source)

    def read_many(self, notes: Sequence[Note]) -> list[NoteReading | LanguageModelError]:
        """Notes that wait, each read whole or not at all; by a local model side by side (see `batching`)."""
        many: AnswersMany | None = self.model if isinstance(self.model, AnswersMany) else None
        if many is None or len(notes) < 2:
            return [self._tried(note) for note in notes]
        prepared = [[self._prompt(window, ()) for window in windows(note)] for note in notes]
        prompts = [prompt for listed in prepared for prompt, _ in listed]
        until = None if self._note_seconds is None else time.monotonic() + self._note_seconds * len(notes)
        try:
            said = iter(list(many.answer_many(prompts, max_tokens=self._max_tokens, deadline=until)))
        except Exception:  # noqa: BLE001 - whatever ails many at once (memory, time) need not ail each alone
            return [self._tried(note) for note in notes]
        return [
            self._put_together(note, [(*pair, next(said)) for pair in p])
            for note, p in zip(notes, prepared, strict=True)
        ]

    def _tried(self, note: Note) -> NoteReading | LanguageModelError:
        try:
            return self.read_note(note)
        except LanguageModelError as error:
            return error

    def _put_together(
        self, note: Note, answered: Sequence[tuple[Prompt, Sequence[Evidence], str]]
    ) -> NoteReading | LanguageModelError:
        anchored = Anchored(self.rules.index, note)
        try:
            for prompt, beside, said in answered:
                answer = ReaderAnswer.from_text(complete_json(said))
                anchored.add(prompt.window, answer, [item.pmid for item in beside[:MAX_PASSAGES]])
        except LanguageModelError as error:
            return error
        return self._known.put(reading_key(self.model.fingerprint, note), anchored.reading)

    def _prompt(self, window: Window, evidence: Sequence[Evidence]) -> tuple[Prompt, Sequence[Evidence]]:
        """Returns the prompt for a window, with the literature."""
        beside = evidence or (self._evidence(window) if self._with_evidence else ())
        return Prompt(window, passages(beside)), beside

    def _asked(self, note: Note, evidence: Sequence[Evidence]) -> NoteReading:
        deadline = None if self._note_seconds is None else time.monotonic() + self._note_seconds
        anchored = Anchored(self.rules.index, note)
        for window in windows(note):
            prompt, beside = self._prompt(window, evidence)
            try:
                said = self.model.answer(prompt, max_tokens=self._max_tokens, deadline=deadline)
            except LanguageModelError:
                raise
            except Exception as error:  # noqa: BLE001 - a backend is foreign code: whatever ails it is no answer
                raise LanguageModelError("failed", error.__class__.__name__) from None
            anchored.add(
                window, ReaderAnswer.from_text(complete_json(said)), [item.pmid for item in beside[:MAX_PASSAGES]]
            )
        return anchored.reading

    def _evidence(self, window: Window) -> tuple[Evidence, ...]:
        """Passages on what the window mentions, by the graph."""
        return evidence_for(self.rules.index, window.text)


def evidence_for(index: KnowledgeIndex, text: str) -> tuple[Evidence, ...]:
    """A few passages on the findings a text mentions; none where it mentions none."""
    linked = [item.concept for item in index.link_text(text) if is_finding(item.concept) and not item.negated]
    concepts = {concept.ui: concept.name for concept in linked}
    if not concepts:
        return ()
    seeds = list(concepts)[:SEEDS]
    try:
        return index.search(Query(" ".join(concepts[ui] for ui in seeds), tuple(seeds)), MAX_PASSAGES)
    except RetrievalError:
        return ()


def reading_key(fingerprint: str, note: Note, evidence: Sequence[str] = ()) -> str:
    """What a reading depends on: the model, the prompt, the note's words and sections, the evidence given. 64 hex."""
    sections = [(section.name, section.start, section.end) for section in note.sections]
    said = (PROMPT_VERSION, fingerprint, note.text, note.kind, sections, list(evidence))
    return sha256(orjson.dumps(said, default=str)).hexdigest()
