"""The note reader by rules: finds concepts and whether they are negated, historical, planned or a relative's.

Every finding has a quote that equals the note's text between its offsets. Findings of a reader whose words are not in
the note are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from time import monotonic
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from artifact_store import MemoryCache
from fhir_mapping import Note
from knowledge_index import LANGUAGES, Concept, Evidence, KnowledgeIndex
from risk_model.core.values import Finding, NoteFindings, NoteValue
from risk_model.notes.asides import masked
from risk_model.notes.context import NoteContext
from risk_model.notes.languages import language_of
from risk_model.notes.reading import (
    DEFAULT_BOUNDS,
    MAX_MENTIONS,
    NoteReading,
    OutOfTimeError,
    ReadingBounds,
    read_each,
)
from risk_model.notes.stated_values import ValueReader

LANGUAGE = "language:"
"""Prefix of the names of readers that are language models."""
CHUNK_CHARACTERS = 1_000
MAX_CHUNKS = 12
REMEMBERED_NOTES = 1024
KEY_SECTIONS = ("assessment", "plan", "discharge_plan", "hospital_course", "present_illness", "chief_complaint")
# Branches of MeSH for findings about a patient: diseases and symptoms, mental disorders, behavioural symptoms
# (depression, delusions), anxiety.
_FINDINGS = ("C", "F03", "F01.145.126", "F01.470.132")

# Of these branches, words that say nothing of a patient: body weight, recurrence, disease, syndrome, acute, chronic.
_NO_FINDINGS = frozenset({"D001835", "D012008", "D004194", "D013577", "D000208", "D002908"})


class NoteReader(Protocol):
    """Reads notes; evidence can be given with them."""

    @property
    def name(self) -> str: ...

    def read(
        self, notes: Sequence[Note], evidence: Sequence[Evidence] = (), *, deadline: float | None = None
    ) -> NoteFindings:
        """Returns what the notes say. Notes not read by `deadline` (of `time.monotonic()`) are in `not_read`."""
        ...


class RuleNoteReader:
    """Sections, negation, temporality and experiencer over the index's vocabulary; deterministic.

    RuleNoteReader(index).read(record.notes())

    Findings are cached by the note's content. Without `embed` there is no embedding, the slow part, which only models
    with a head for it need; without `values` there are no numbers and grades, which only models with such inputs need.
    """

    name = "rules-3"

    def __init__(
        self, index: KnowledgeIndex, embed: bool = True, values: bool = True, bounds: ReadingBounds = DEFAULT_BOUNDS
    ) -> None:
        self.index = index
        self._bounds = bounds
        self._embed = embed
        self._values = ValueReader() if values else None
        self._known: MemoryCache[NoteReading] = MemoryCache(REMEMBERED_NOTES)

    def read(
        self, notes: Sequence[Note], evidence: Sequence[Evidence] = (), *, deadline: float | None = None
    ) -> NoteFindings:
        """Returns the findings of the notes, newest and most telling first, and an embedding of their assessments and
        plans. What is beyond the bounds or the deadline is in `not_read`."""
        until = deadline
        return read_each(
            self.name,
            notes,
            lambda note: self.read_note(note, until),
            self.embedding,
            deadline=deadline,
            bounds=self._bounds,
        )

    def read_note(self, note: Note, deadline: float | None = None) -> NoteReading:
        """Returns the reading of one note with its whole `text`; `read_each` cuts long notes.

        Raises OutOfTimeError if it is not done by `deadline`.
        """
        sections = "".join(f"{section.name}:{section.start}-{section.end};" for section in note.sections)
        key = blake2b(f"{note.language}{sections}\0{note.text}".encode("utf-8", "replace")).digest()
        known = self._known.get(key)
        if known is None:
            known = self._known.put(key, self._read(note, deadline))
        return known.of(note.source)

    def _read(self, note: Note, deadline: float | None) -> NoteReading:
        language = language_of(note.text, note.language)
        if language not in LANGUAGES:
            return NoteReading((), language=language)
        around = NoteContext(note.text, note.sections, language)
        mentioned = self._mentioned(note.text, language)
        findings = _within(self._findings(note, around, mentioned), deadline)
        values: tuple[NoteValue, ...] = ()
        # Names and units of values are English.
        if self._values is not None and language == LANGUAGES[0]:
            values = _within(self._values.read(note.text, note.sections, note.source, around), deadline)
        cut = max(len(findings), len(values), len(mentioned) / 2) > MAX_MENTIONS
        return NoteReading(
            findings[:MAX_MENTIONS],
            values[:MAX_MENTIONS],
            mentions_cut=cut,
            values_language=None if language == LANGUAGES[0] else language,
        )

    def _mentioned(self, text: str, language: str) -> list[tuple[Concept, int, int]]:
        """Returns the first mentions of findings in a text, whatever their context: at most 2 MAX_MENTIONS and one."""
        found = (
            (linked.concept, linked.start, linked.end)
            for linked in self.index.mentions(masked(text), language)
            if linked.start is not None and linked.end is not None and is_finding(linked.concept)
        )
        return list(islice(found, 2 * MAX_MENTIONS + 1))

    def _findings(
        self, note: Note, around: NoteContext, mentioned: Iterable[tuple[Concept, int, int]]
    ) -> Iterator[Finding]:
        text = note.text
        for concept, start, end in mentioned:
            if around.sentences.names_something_else(start, end):
                continue
            said = around.of(start, end)
            yield Finding(
                concept_ui=concept.ui,
                name=concept.name,
                polarity=said.polarity,
                temporality=said.temporality,
                experiencer=said.experiencer,
                note_source=note.source,
                quote=text[start:end],
                start=start,
                end=end,
                section=around.section_at(start),
            )

    def embedding(self, notes: Sequence[Note]) -> NDArray[np.float32] | None:
        """Returns the mean of the chunk embeddings, shape (dimensions,), L2-normalised; None without text or if `embed`
        is off."""
        chunks = list(_chunks(notes))[:MAX_CHUNKS] if self._embed else []
        if not chunks:
            return None
        mean = self.index.encoder.encode(chunks).mean(axis=0)
        length = float(np.linalg.norm(mean))
        return (mean / length).astype(np.float32) if length else None


_Item = TypeVar("_Item")


def _within(items: Iterable[_Item], deadline: float | None) -> tuple[_Item, ...]:
    """Returns the first MAX_MENTIONS items and one more. Raises OutOfTimeError at the deadline."""
    found = []
    for item in islice(items, MAX_MENTIONS + 1):
        if deadline is not None and monotonic() > deadline:
            raise OutOfTimeError
        found.append(item)
    return tuple(found)


def is_finding(concept: Concept) -> bool:
    """Whether a patient can have it: a disease, a symptom, a mental disorder."""
    return concept.ui not in _NO_FINDINGS and any(number.startswith(_FINDINGS) for number in concept.tree_numbers)


def _chunks(notes: Sequence[Note]) -> Iterator[str]:
    """Returns the key sections of each note, else its beginning, in chunks that fit the encoder."""
    for note in notes:
        keys = [note.text[s.start : s.end] for s in note.sections if s.name in KEY_SECTIONS]
        text = "\n".join(keys) or note.text[: 2 * CHUNK_CHARACTERS]
        for start in range(0, min(len(text), 3 * CHUNK_CHARACTERS), CHUNK_CHARACTERS):
            piece = text[start : start + CHUNK_CHARACTERS].strip()
            if piece:
                yield piece
