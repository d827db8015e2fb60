"""Stage 1: read the notes. The rule reader finds concepts, whether they are denied, past, planned or a relative's.

Every finding is anchored: its quote is the note's own text between its offsets. A reader that claims words the note
does not hold has those findings dropped and counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import Note
from knowledge_index import Concept, Evidence, KnowledgeIndex
from risk_model.note_context import before, experiencer, polarity, section_at, temporality
from risk_model.values import Finding, NoteFindings, NoteValue
from risk_model.values_in_notes import ValueReader, timed

MAX_NOTES = 12
MAX_CHARACTERS = 60_000
CHUNK_CHARACTERS = 1_000
MAX_CHUNKS = 12
REMEMBERED_NOTES = 1024
_KEY_SECTIONS = ("assessment", "plan", "discharge_plan", "hospital_course", "present_illness", "chief_complaint")
# Branches of MeSH that a finding about a patient can lie in: diseases and symptoms, mental disorders.
_FINDINGS = ("C", "F03")


class NoteReader(Protocol):
    """Reads notes, with evidence beside them where the reader can use it."""

    name: str

    def read(self, notes: Sequence[Note], evidence: Sequence[Evidence] = ()) -> NoteFindings: ...


class RuleNoteReader:
    """Sections, negation, temporality and experiencer over the index's vocabulary; the same answer every time.

    RuleNoteReader(index).read(record.notes())

    What a note says is remembered by its content, so that a chart opened again is not read again. Without `embed` the
    findings come without the embedding, the slow part, which only models with a head for it need; without `values` they
    come without the numbers and grades that only models with inputs for them need.
    """

    name = "rules-1"

    def __init__(self, index: KnowledgeIndex, embed: bool = True, values: bool = True) -> None:
        self._index = index
        self._embed = embed
        self._values = ValueReader() if values else None
        self._known: OrderedDict[bytes, tuple[Finding, ...]] = OrderedDict()
        self._lock = Lock()

    def read(self, notes: Sequence[Note], evidence: Sequence[Evidence] = ()) -> NoteFindings:
        """Findings of the newest notes, and an embedding of what they assess and plan.

        Bounded: at most MAX_NOTES notes and MAX_CHARACTERS characters, newest first.
        """
        read = [note for note in notes if note.status == "read" and note.text]
        findings: list[Finding] = []
        left = MAX_CHARACTERS
        used: list[Note] = []
        for note in read[:MAX_NOTES]:
            if left <= 0:
                break
            findings.extend(self._remembered(note, left))
            left -= len(note.text)
            used.append(note)
        anchored = [finding for finding in findings if _anchored(finding, used)]
        return NoteFindings(
            findings=tuple(_said_once(anchored, used)),
            embedding=self._embedding(used) if self._embed else None,
            reader=self.name,
            notes_read=len(used),
            notes_unreadable=sum(note.status != "read" for note in notes),
            unanchored_dropped=len(findings) - len(anchored),
            values=() if self._values is None else self._stated(self._values, used),
        )

    def _stated(self, reader: ValueReader, notes: Sequence[Note]) -> tuple[NoteValue, ...]:
        """The values the notes state, each where it was first said."""
        left = MAX_CHARACTERS
        found: list[NoteValue] = []
        for note in notes:
            found.extend(reader.read(note.text[:left], note.sections, note.source))
            left -= len(note.text)
        return timed(found, notes)

    def _remembered(self, note: Note, limit: int) -> tuple[Finding, ...]:
        key = blake2b(f"{limit if limit < len(note.text) else 0}|{note.text}".encode("utf-8", "replace")).digest()
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
        if known is None:
            known = tuple(self._findings(note, limit))
            with self._lock:
                self._known[key] = known
                while len(self._known) > REMEMBERED_NOTES:
                    self._known.popitem(last=False)
        if known and known[0].note_source != note.source:
            return tuple(replace(finding, note_source=note.source) for finding in known)
        return known

    def _findings(self, note: Note, limit: int) -> Iterator[Finding]:
        text = note.text[:limit]
        for linked in self._index.link_text(text):
            if linked.start is None or linked.end is None or not _is_finding(linked.concept):
                continue
            section = section_at(note.sections, linked.start)
            words = before(text, linked.start)
            yield Finding(
                concept_ui=linked.concept.ui,
                name=linked.concept.name,
                polarity=polarity(linked.negated, words),
                temporality=temporality(section, words),
                experiencer=experiencer(section, words),
                note_source=note.source,
                quote=text[linked.start : linked.end],
                start=linked.start,
                end=linked.end,
                section=section,
            )

    def _embedding(self, notes: Sequence[Note]) -> NDArray[np.float32] | None:
        """Mean of the chunk embeddings, shape (dimensions,), L2-normalised; None without text."""
        chunks = list(_chunks(notes))[:MAX_CHUNKS]
        if not chunks:
            return None
        mean = self._index.encoder.encode(chunks).mean(axis=0)
        length = float(np.linalg.norm(mean))
        return (mean / length).astype(np.float32) if length else None


def _is_finding(concept: Concept) -> bool:
    return any(number.startswith(_FINDINGS) for number in concept.tree_numbers)


def _anchored(finding: Finding, notes: Iterable[Note]) -> bool:
    return any(
        note.source == finding.note_source and note.text[finding.start : finding.end] == finding.quote for note in notes
    )


def _said_once(findings: Sequence[Finding], notes: Iterable[Note]) -> Iterator[Finding]:
    """Without those a note copied from an earlier one that was read too and says the same: there they count."""
    by_source = {note.source: note for note in notes}
    said = {(finding.note_source, finding.concept_ui, finding.quote) for finding in findings}
    for finding in findings:
        origin = by_source[finding.note_source].copied_from(finding.start)
        if (origin, finding.concept_ui, finding.quote) not in said:
            yield finding


def _chunks(notes: Sequence[Note]) -> Iterator[str]:
    """Key sections of each note, else its beginning, in pieces the encoder can hold."""
    for note in notes:
        keys = [note.text[s.start : s.end] for s in note.sections if s.name in _KEY_SECTIONS]
        text = "\n".join(keys) or note.text[: 2 * CHUNK_CHARACTERS]
        for start in range(0, min(len(text), 3 * CHUNK_CHARACTERS), CHUNK_CHARACTERS):
            piece = text[start : start + CHUNK_CHARACTERS].strip()
            if piece:
                yield piece
