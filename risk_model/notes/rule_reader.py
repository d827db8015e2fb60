"""The note reader by rules: finds concepts and whether they are negated, historical, planned or a relative's.

Every finding has a quote that equals the note's text between its offsets. Findings of a reader whose words are not in
the note are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from artifact_store import MemoryCache
from fhir_mapping import Note
from knowledge_index import Concept, Evidence, KnowledgeIndex
from risk_model.core.values import Finding, NoteFindings, NoteValue
from risk_model.notes.context import context, section_at
from risk_model.notes.stated_values import ValueReader, timed

LANGUAGE = "language:"
"""Prefix of the names of readers that are language models."""
MAX_NOTES = 12
MAX_CHARACTERS = 60_000
CHUNK_CHARACTERS = 1_000
MAX_CHUNKS = 12
REMEMBERED_NOTES = 1024
KEY_SECTIONS = ("assessment", "plan", "discharge_plan", "hospital_course", "present_illness", "chief_complaint")
# Branches of MeSH for findings about a patient: diseases and symptoms, mental disorders, behavioural symptoms
# (depression, delusions), anxiety.
_FINDINGS = ("C", "F03", "F01.145.126", "F01.470.132")


class NoteReader(Protocol):
    """Reads notes; evidence can be given with them."""

    @property
    def name(self) -> str: ...

    def read(self, notes: Sequence[Note], evidence: Sequence[Evidence] = ()) -> NoteFindings: ...


@dataclass(frozen=True, slots=True)
class NoteReading:
    """One reader's findings in one note, before notes are compared with each other."""

    findings: tuple[Finding, ...]
    values: tuple[NoteValue, ...] = ()
    dropped: int = 0
    """Number of findings whose words are not in the note."""
    by_language_model: bool = False
    failed: bool = False
    waiting: bool = False
    cited: tuple[str, ...] = ()
    cited_dropped: int = 0

    def of(self, source: str) -> NoteReading:
        """Returns the same findings with another note as their source."""
        if {finding.note_source for finding in self.findings} | {v.note_source for v in self.values} <= {source}:
            return self
        findings = tuple(replace(finding, note_source=source) for finding in self.findings)
        return replace(self, findings=findings, values=tuple(replace(v, note_source=source) for v in self.values))


class RuleNoteReader:
    """Sections, negation, temporality and experiencer over the index's vocabulary; deterministic.

    RuleNoteReader(index).read(record.notes())

    Findings are cached by the note's content. Without `embed` there is no embedding, the slow part, which only models
    with a head for it need; without `values` there are no numbers and grades, which only models with such inputs need.
    """

    name = "rules-2"

    def __init__(self, index: KnowledgeIndex, embed: bool = True, values: bool = True) -> None:
        self.index = index
        self._embed = embed
        self._values = ValueReader() if values else None
        self._known: MemoryCache[tuple[Finding, ...]] = MemoryCache(REMEMBERED_NOTES)

    def read(self, notes: Sequence[Note], evidence: Sequence[Evidence] = ()) -> NoteFindings:
        """Returns the findings of the newest notes, and an embedding of their assessments and plans.

        At most MAX_NOTES notes and MAX_CHARACTERS characters are read, newest first.
        """
        return read_each(self.name, notes, self.read_note, self.embedding)

    def read_note(self, note: Note) -> NoteReading:
        """Returns the reading of one note with its whole `text`; `read_each` cuts long notes."""
        key = blake2b(note.text.encode("utf-8", "replace")).digest()
        known = self._known.get(key)
        if known is None:
            known = self._known.put(key, tuple(self._findings(note)))
        reader = self._values
        values = () if reader is None else tuple(reader.read(note.text, note.sections, note.source))
        return NoteReading(known, values).of(note.source)

    def _findings(self, note: Note) -> Iterator[Finding]:
        text = note.text
        for linked in self.index.link_text(text):
            if linked.start is None or linked.end is None or not is_finding(linked.concept):
                continue
            said = context(text, note.sections, linked.start, linked.end)
            yield Finding(
                concept_ui=linked.concept.ui,
                name=linked.concept.name,
                polarity=said.polarity,
                temporality=said.temporality,
                experiencer=said.experiencer,
                note_source=note.source,
                quote=text[linked.start : linked.end],
                start=linked.start,
                end=linked.end,
                section=section_at(note.sections, linked.start),
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


def read_each(
    name: str,
    notes: Sequence[Note],
    read_note: Callable[[Note], NoteReading],
    embedding: Callable[[Sequence[Note]], NDArray[np.float32] | None],
) -> NoteFindings:
    """Returns the merged readings of the newest notes by `read_note`: anchored, and copied statements counted once."""
    used = list(within_bounds(notes))
    readings = [read_note(cut) for _, cut in used]
    whole = [note for note, _ in used]
    findings = [finding for reading in readings for finding in reading.findings]
    anchored = [finding for finding in findings if _anchored(finding, whole)]
    return NoteFindings(
        findings=tuple(_said_once(anchored, whole)),
        embedding=embedding(whole),
        reader=name,
        notes_read=len(used),
        notes_unreadable=sum(note.status != "read" for note in notes),
        unanchored_dropped=len(findings) - len(anchored) + sum(reading.dropped for reading in readings),
        values=timed((value for reading in readings for value in reading.values), whole),
        language_notes=sum(reading.by_language_model for reading in readings),
        language_failed=sum(reading.failed for reading in readings),
        waiting=sum(reading.waiting for reading in readings),
        cited=tuple(dict.fromkeys(pmid for reading in readings for pmid in reading.cited)),
        cited_dropped=sum(reading.cited_dropped for reading in readings),
    )


def within_bounds(notes: Sequence[Note]) -> Iterator[tuple[Note, Note]]:
    """Returns the notes to read, each with the part that is read."""
    left = MAX_CHARACTERS
    for note in [note for note in notes if note.status == "read" and note.text][:MAX_NOTES]:
        if left <= 0:
            return
        yield note, note if len(note.text) <= left else replace(note, text=note.text[:left])
        left -= len(note.text)


def is_finding(concept: Concept) -> bool:
    """Whether a patient can have it: a disease, a symptom, a mental disorder."""
    return any(number.startswith(_FINDINGS) for number in concept.tree_numbers)


def _anchored(finding: Finding, notes: Iterable[Note]) -> bool:
    return any(
        note.source == finding.note_source and note.text[finding.start : finding.end] == finding.quote for note in notes
    )


def _said_once(findings: Sequence[Finding], notes: Iterable[Note]) -> Iterator[Finding]:
    """Returns the findings without those copied from an earlier note that says the same."""
    by_source = {note.source: note for note in notes}
    said = {(finding.note_source, finding.concept_ui, finding.quote) for finding in findings}
    for finding in findings:
        origin = by_source[finding.note_source].copied_from(finding.start)
        if (origin, finding.concept_ui, finding.quote) not in said:
            yield finding


def _chunks(notes: Sequence[Note]) -> Iterator[str]:
    """Returns the key sections of each note, else its beginning, in chunks that fit the encoder."""
    for note in notes:
        keys = [note.text[s.start : s.end] for s in note.sections if s.name in KEY_SECTIONS]
        text = "\n".join(keys) or note.text[: 2 * CHUNK_CHARACTERS]
        for start in range(0, min(len(text), 3 * CHUNK_CHARACTERS), CHUNK_CHARACTERS):
            piece = text[start : start + CHUNK_CHARACTERS].strip()
            if piece:
                yield piece
