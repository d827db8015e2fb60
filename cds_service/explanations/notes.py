"""Findings in notes with their passages, and whole notes with every finding marked.

Note text is returned in plain pieces; the template escapes each and adds <mark>, so that offsets stay valid.
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
_KINDS = ("present", "uncertain", "denied", "past", "planned or possible", "family history")


@dataclass(frozen=True, slots=True)
class Passage:
    """The text around one finding: `before`, the marked `quote`, `after`. `note` is the key of the whole note."""

    note: str
    title: str
    when: str
    section: str
    before: str
    quote: str
    after: str


@dataclass(frozen=True, slots=True)
class ConceptMentions:
    """One concept mentioned in notes, with its newest passages; `times` is the number of mentions."""

    anchor: str
    name: str
    kind: str
    times: int
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class MentionsShown:
    """`shown` are present, current and the patient's own; `others`, with what is denied, past, planned, possible or a
    relative's, are one click away."""

    shown: tuple[ConceptMentions, ...]
    others: tuple[ConceptMentions, ...]


@dataclass(frozen=True, slots=True)
class NotePiece:
    """A piece of a note's text; `finding` describes a marked piece and is empty for other text."""

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
    """The key of a note in URLs: a hash, as its title or id may name the patient."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def anchor_of(name: str) -> str:
    return "said-" + hashlib.sha256(name.encode()).hexdigest()[:8]


def concept_mentions(findings: Iterable[Finding], notes: Sequence[Note]) -> tuple[ConceptMentions, ...]:
    """Returns the concepts mentioned in notes, present ones first, then by number of mentions."""
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


def sifted(mentions: Iterable[ConceptMentions]) -> MentionsShown:
    """Returns what of the notes is shown at once, and what on request."""
    listed = tuple(mentions)
    return MentionsShown(
        tuple(mention for mention in listed if mention.kind == _KINDS[0]),
        tuple(mention for mention in listed if mention.kind != _KINDS[0]),
    )


def kind_of(finding: Finding) -> str:
    """Returns one of _KINDS. Experiencer comes before polarity: a father's stroke is family history, denied or not."""
    if finding.experiencer is Experiencer.FAMILY:
        return "family history"
    if finding.polarity is Polarity.ABSENT:
        return "denied"
    if finding.temporality is Temporality.HISTORICAL:
        return "past"
    if finding.temporality is Temporality.HYPOTHETICAL:
        return "planned or possible"
    return "uncertain" if finding.polarity is Polarity.UNCERTAIN else "present"


def passage(finding: Finding, note: Note) -> Passage:
    """Returns the finding's quote with about 140 characters on either side, cut at spaces."""
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
    """Returns the note split at its findings. Of two that overlap, the first to begin (then the longer) is marked."""
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
