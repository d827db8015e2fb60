"""Reads several notes within bounds, newest and most telling first, and says which were not read.

    read_each(name, notes, read_note, embedding, deadline) -> NoteFindings

A note that is not read, or not to its end, is in `NoteFindings.not_read` with a reason; it never counts as a note that
says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import Note
from risk_model.core.values import Finding, NoteFindings, NoteValue, UnreadNote
from risk_model.notes.stated_values import timed

MAX_NOTES = 12
MAX_CHARACTERS = 60_000
MAX_MENTIONS = 2_000
"""Findings, and values, read of one note: a note of 60,000 characters has some 600. Twice as many are looked at."""
# Of one day, what a physician sums up is read before what is noted in passing.
_BY_IMPORTANCE = (
    ("discharge_summary", "history_and_physical", "emergency_note", "consultation"),
    ("progress_note", "initial_evaluation", "operative_note", "patient_summary"),
    ("procedure_note", "imaging_report", "pathology_report", "referral"),
)


class OutOfTimeError(Exception):
    """The deadline passed while a note was read."""


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
    mentions_cut: bool = False
    """Whether there are more mentions than MAX_MENTIONS: those are not read."""
    language: str | None = None
    """Set if the note is in a language that is not read: its code."""

    values_language: str | None = None
    """Set if only findings are read in the note's language: its code."""

    def of(self, source: str) -> NoteReading:
        """Returns the same findings with another note as their source."""
        if {finding.note_source for finding in self.findings} | {v.note_source for v in self.values} <= {source}:
            return self
        findings = tuple(replace(finding, note_source=source) for finding in self.findings)
        return replace(self, findings=findings, values=tuple(replace(v, note_source=source) for v in self.values))


@dataclass(frozen=True, slots=True)
class ReadingBounds:
    """The most that is read of one patient."""

    notes: int = MAX_NOTES
    characters: int = MAX_CHARACTERS


DEFAULT_BOUNDS = ReadingBounds()


def read_each(
    name: str,
    notes: Sequence[Note],
    read_note: Callable[[Note], NoteReading],
    embedding: Callable[[Sequence[Note]], NDArray[np.float32] | None],
    *,
    deadline: float | None = None,
    bounds: ReadingBounds = DEFAULT_BOUNDS,
) -> NoteFindings:
    """Returns the merged readings of the newest notes by `read_note`: anchored, and copied statements counted once.

    After `deadline` (of `time.monotonic()`) no further note is read; `read_note` raises OutOfTimeError for one that it
    could not finish.
    """
    chosen = list(within_bounds(notes, bounds))
    not_read = _beyond(notes, chosen)
    used: list[Note] = []
    readings: list[NoteReading] = []
    for note, cut in chosen:
        try:
            if deadline is not None and monotonic() > deadline:
                raise OutOfTimeError
            reading = read_note(cut)
        except OutOfTimeError:
            not_read.append(UnreadNote(note.source, "not-in-time"))
            continue
        if reading.language is not None:
            not_read.append(UnreadNote(note.source, f"language-{reading.language}"))
            continue
        used.append(note)
        readings.append(reading)
        if reading.values_language is not None:
            not_read.append(UnreadNote(note.source, f"values-{reading.values_language}", part=True))
        if reading.mentions_cut:
            not_read.append(UnreadNote(note.source, "more-mentions-than-read", part=True))
    findings = [finding for reading in readings for finding in reading.findings]
    texts = {note.source: note.text for note in used}
    anchored = [finding for finding in findings if _anchored(finding, texts)]
    return NoteFindings(
        findings=tuple(_said_once(anchored, used)),
        embedding=embedding(used) if deadline is None or monotonic() <= deadline else None,
        reader=name,
        notes_read=len(used),
        notes_unreadable=sum(note.status != "read" for note in notes),
        unanchored_dropped=len(findings) - len(anchored) + sum(reading.dropped for reading in readings),
        values=timed((value for reading in readings for value in reading.values), used),
        language_notes=sum(reading.by_language_model for reading in readings),
        language_failed=sum(reading.failed for reading in readings),
        waiting=sum(reading.waiting for reading in readings),
        cited=tuple(dict.fromkeys(pmid for reading in readings for pmid in reading.cited)),
        cited_dropped=sum(reading.cited_dropped for reading in readings),
        not_read=tuple(not_read),
    )


def within_bounds(notes: Sequence[Note], bounds: ReadingBounds = DEFAULT_BOUNDS) -> Iterator[tuple[Note, Note]]:
    """Yields the notes to read, newest and most telling first, each with the part that is read."""
    left = bounds.characters
    for note in _in_order(notes)[: bounds.notes]:
        if left <= 0:
            return
        yield note, note if len(note.text) <= left else replace(note, text=note.text[:left])
        left -= len(note.text)


def _in_order(notes: Sequence[Note]) -> list[Note]:
    """The notes are given newest first; of one day, the most telling kinds come first."""
    readable = [note for note in notes if note.status == "read" and note.text]
    days = {note.source: place for place, note in enumerate(readable)}
    first_of_day: dict[object, int] = {}
    for note in readable:
        first_of_day.setdefault(None if note.time is None else note.time.date(), days[note.source])
    return sorted(
        readable, key=lambda note: (first_of_day[None if note.time is None else note.time.date()], _rank(note))
    )


def _rank(note: Note) -> int:
    return next((rank for rank, kinds in enumerate(_BY_IMPORTANCE) if note.kind in kinds), len(_BY_IMPORTANCE))


def _beyond(notes: Sequence[Note], chosen: Sequence[tuple[Note, Note]]) -> list[UnreadNote]:
    """Returns the notes beyond the bounds, and those cut by them."""
    kept = {note.source for note, _ in chosen}
    beyond = [UnreadNote(note.source, "more-notes-than-read") for note in _in_order(notes) if note.source not in kept]
    return beyond + [UnreadNote(note.source, "text-cut", part=True) for note, cut in chosen if cut is not note]


def _anchored(finding: Finding, texts: Mapping[str, str]) -> bool:
    return texts.get(finding.note_source, "")[finding.start : finding.end] == finding.quote != ""


def _said_once(findings: Sequence[Finding], notes: Iterable[Note]) -> Iterator[Finding]:
    """Yields the findings without those copied from an earlier note that says the same."""
    by_source = {note.source: note for note in notes}
    said = {(finding.note_source, finding.concept_ui, finding.quote) for finding in findings}
    for finding in findings:
        origin = by_source[finding.note_source].copied_from(finding.start)
        if (origin, finding.concept_ui, finding.quote) not in said:
            yield finding
