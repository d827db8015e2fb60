"""What notes say, with the words themselves: passages around each finding, and whole notes with every finding marked.

Texts leave here as plain pieces; the template escapes each and puts <mark> between them, so that offsets stay true.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cds_service.explanations.formatting import format_moment
from fhir_mapping import Note
from risk_model import Experiencer, Finding, Polarity, Temporality

AROUND = 140
MAX_PASSAGES = 3
MAX_MARKED = 400
_KINDS = ("present", "uncertain", "denied", "in the past", "planned or feared", "of the family")


@dataclass(frozen=True, slots=True)
class Passage:
    """The words around one finding: `before`, the marked `quote`, `after`. `note` is the key of the whole note."""

    note: str
    title: str
    when: str
    section: str
    before: str
    quote: str
    after: str


@dataclass(frozen=True, slots=True)
class ConceptMentions:
    """One concept as the notes hold it, with its newest passages; `times` counts all of them."""

    anchor: str
    name: str
    kind: str
    times: int
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class NotePiece:
    """A piece of a note's text; `finding` is what it says, empty for the text between."""

    text: str
    finding: str = ""


@dataclass(frozen=True, slots=True)
class WholeNote:
    title: str
    when: str
    status: str
    role: str
    pieces: tuple[NotePiece, ...]
    marked: int


def note_key(source: str) -> str:
    """A note in an address: neither its title nor its id, which may name the patient."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def anchor_of(name: str) -> str:
    return "said-" + hashlib.sha256(name.encode()).hexdigest()[:8]


def concept_mentions(findings: Iterable[Finding], notes: Sequence[Note]) -> tuple[ConceptMentions, ...]:
    """Concepts the notes name, the patient's present ones first, then by how often they are named."""
    by_source = {note.source: note for note in notes}
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.note_source in by_source:
            groups.setdefault((kind_of(finding), finding.name), []).append(finding)
    ordered = sorted(groups.items(), key=lambda item: (_KINDS.index(item[0][0]), -len(item[1]), item[0][1]))
    newest = {note.source: place for place, note in enumerate(notes)}
    return tuple(
        ConceptMentions(
            anchor_of(name) if kind == "present" else "",
            name,
            kind,
            len(found),
            tuple(
                passage(finding, by_source[finding.note_source])
                for finding in sorted(found, key=lambda f: (newest[f.note_source], f.start))[:MAX_PASSAGES]
            ),
        )
        for (kind, name), found in ordered
    )


def kind_of(finding: Finding) -> str:
    """Whose and when comes before whether: a father's stroke is not the patient's, denied or not."""
    if finding.experiencer is Experiencer.FAMILY:
        return "of the family"
    if finding.polarity is Polarity.ABSENT:
        return "denied"
    if finding.temporality is Temporality.HISTORICAL:
        return "in the past"
    if finding.temporality is Temporality.HYPOTHETICAL:
        return "planned or feared"
    return "uncertain" if finding.polarity is Polarity.UNCERTAIN else "present"


def passage(finding: Finding, note: Note) -> Passage:
    """The finding's words with about 140 characters on either side, cut at spaces."""
    text, start, end = note.text, finding.start, finding.end
    first = max(0, start - AROUND)
    last = min(len(text), end + AROUND)
    before, after = text[first:start], text[end:last]
    if first > 0:
        before = "…" + before.partition(" ")[2]
    if last < len(text):
        after = after.rpartition(" ")[0] + "…"
    section = (finding.section or "").replace("_", " ")
    when = format_moment(note.time)
    return Passage(note_key(note.source), note.type, when, section, before, text[start:end], after)


def whole_note(note: Note, findings: Iterable[Finding]) -> WholeNote:
    """The note cut at its findings. Where two overlap, the one that begins first (then the longer) is marked."""
    mine = sorted((f for f in findings if f.note_source == note.source), key=lambda f: (f.start, -f.end))
    pieces: list[NotePiece] = []
    at = marked = 0
    for finding in mine:
        if finding.start < at or marked == MAX_MARKED:
            continue
        pieces += [NotePiece(note.text[at : finding.start]), _marked(finding, note)]
        at, marked = finding.end, marked + 1
    pieces.append(NotePiece(note.text[at:]))
    kept = tuple(piece for piece in pieces if piece.text)
    return WholeNote(note.type, format_moment(note.time), note.status, note.author_role or "", kept, marked)


def _marked(finding: Finding, note: Note) -> NotePiece:
    return NotePiece(note.text[finding.start : finding.end], f"{finding.name}, {kind_of(finding)}")


def find_note(notes: Iterable[Note], key: str) -> Note | None:
    by_key: Mapping[str, Note] = {note_key(note.source): note for note in notes}
    return by_key.get(key)
