"""Removes duplicate notes and marks passages copied from earlier notes; no text is removed from a note."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fhir_mapping.core.values import CopiedBlock, Note

MIN_COPIED = 80
"""Minimum length in characters of a copied passage; shorter ones are coincidence or headings."""
MAX_UNITS = 50_000
_MIN_OVERLAP = 0.8
_SENTENCE_END = re.compile(r"[.;!?]\s+")
_NOT_LETTERS = re.compile(r"[\W_]+")
_ASCII_LOWER = bytes(range(256)).lower()
_ASCII_OTHERS = bytes(code for code in range(128) if not chr(code).isalnum())
# Of duplicates the most structured format is kept; see `attachments`.
_RANK = ("xml", "plain", "markdown", "html", "rtf", "pdf")


def letters(text: str) -> bytes:
    """Returns letters and digits in lower case, which are the same in every format of a note.

    >>> letters("Na | 131\\n- medica-\\ntion") == letters("Na 131, medication")
    True
    """
    if not text.isascii():
        text = _NOT_LETTERS.sub("", unicodedata.normalize("NFKC", text).casefold())
    return text.encode().translate(_ASCII_LOWER, _ASCII_OTHERS)


class DistinctNotes:
    """The notes read so far, newest first; a duplicate in another format is merged into the known note."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self._letters: list[bytes] = []

    def __len__(self) -> int:
        return sum(note.status == "read" for note in self._notes)

    def add(self, note: Note) -> bool:
        """Adds a note; returns False if it is a duplicate, of which only the source is added."""
        text = letters(note.text) if note.status == "read" else b""
        position = self._duplicate_of(note, text) if text else None
        if position is None:
            self._notes.append(note)
            self._letters.append(text)
            return True
        other = self._notes[position]
        better, lesser = (note, other) if self._better(note, text, position) else (other, note)
        sources = dict.fromkeys((*better.other_sources, lesser.source, *lesser.other_sources))
        self._notes[position] = replace(better, other_sources=tuple(sources))
        self._letters[position] = text if better is note else self._letters[position]
        return False

    def _duplicate_of(self, note: Note, text: bytes) -> int | None:
        """Returns the position of a duplicate: the same text, or nearly the same on one day in another format."""
        for position, (other, known) in enumerate(zip(self._notes, self._letters, strict=True)):
            if text == known:
                return position
            if other.original_format != note.original_format and _same_day(note, other):
                shorter, longer = sorted((text, known), key=len)
                if shorter and len(shorter) >= _MIN_OVERLAP * len(longer) and shorter in longer:
                    return position
        return None

    def _better(self, note: Note, text: bytes, position: int) -> bool:
        """Whether `note` has a longer text than the known note, or the same text in a more structured format."""
        known = self._letters[position]
        if text != known:
            return len(text) > len(known)
        return _rank(note) < _rank(self._notes[position])

    def notes(self) -> tuple[Note, ...]:
        """Returns the notes with their copied blocks marked."""
        return tuple(mark_copied(self._notes))


def _rank(note: Note) -> int:
    form = note.original_format or ""
    return next((rank for rank, word in enumerate(_RANK) if word in form), len(_RANK))


def _same_day(note: Note, other: Note) -> bool:
    return note.time is None or other.time is None or note.time.date() == other.time.date()


def mark_copied(notes: Sequence[Note]) -> list[Note]:
    """Returns the notes (newest first) with the passages marked that occur verbatim in an earlier one of them.

    A passage is a run of lines or sentences, MIN_COPIED characters or more, all found in one earlier note; `source` is
    the earliest such note. Notes without a time are skipped. At most MAX_UNITS lines and sentences are compared.
    """
    marked = list(notes)
    seen: dict[str, set[int]] = {}
    left = MAX_UNITS
    for position in range(len(notes) - 1, -1, -1):
        note = notes[position]
        if note.time is None or not note.text:
            continue
        units = [unit for _, unit in zip(range(left), _units(note.text), strict=False)]
        left -= len(units)
        blocks = tuple(
            CopiedBlock(start, end, notes[max(sources)].source) for start, end, sources in _runs(note.text, units, seen)
        )
        if blocks:
            marked[position] = replace(note, copied=blocks)
        for _, _, key in units:
            seen.setdefault(key, set()).add(position)
    return marked


def _units(text: str) -> Iterator[tuple[int, int, str]]:
    """Yields lines, long ones by sentence: start, end, and the text to compare."""
    start = 0
    for line in text.split("\n"):
        end = start + len(line)
        if len(line) >= MIN_COPIED:
            for begin, finish in _sentences(text, start, end):
                yield begin, finish, text[begin:finish].strip()
        elif line:
            yield start, end, line.strip()
        start = end + 1


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for border in _SENTENCE_END.finditer(text, start, end):
        yield start, border.end()
        start = border.end()
    if start < end:
        yield start, end


def _runs(
    text: str, units: Sequence[tuple[int, int, str]], seen: dict[str, set[int]]
) -> Iterator[tuple[int, int, set[int]]]:
    """Yields the longest runs of units that occur in one earlier note. Positions increase towards the past."""
    begin, until = 0, 0
    common: set[int] = set()
    for start, end, key in units:
        sources = seen.get(key, set())
        if common & sources:
            common, until = common & sources, end
            continue
        if common and len(text[begin:until].strip()) >= MIN_COPIED:
            yield begin, until, common
        begin, until, common = start, end, sources
    if common and len(text[begin:until].strip()) >= MIN_COPIED:
        yield begin, until, common
