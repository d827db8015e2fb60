"""Sections of a note: where a heading stands, in the styles clinicians and systems write them, and what it opens.

Two measures. A heading that is marked as one (Markdown, HTML, CDA, underlined, bold, capitals with a colon) opens a
section whatever its words; words without a mark ("Plan", "Past Medical History: none", "2. Allergies") do so only when
all of them are words headings are made of. A line of prose never opens a section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fhir_mapping.formats.converted import Heading
from fhir_mapping.section_names import OTHER, made_of_heading_words, section_name
from fhir_mapping.values import Section

_NUMBER = r"(?:\(?(?:\d{1,2}(?:\.\d{1,2})?|[IVX]{1,4}|[A-Z])[.)][ \t]+)?"
# A line that might open a section: it ends, or has a colon, within 80 characters.
_CANDIDATE = re.compile(
    r"\n[ \t>]{0,8}"
    r"(?P<mark>\#{1,6}[ \t]+|\*\*|__|={2,}[ \t]*|-{2,}[ \t]+|~{2,}[ \t]*|\*{3,}[ \t]*|<{2}|\[(?=[A-Z])"
    r"|(?=[A-Za-z0-9(]))"
    r"(?P<words>[A-Za-z0-9(][^\n:|]{0,78}+)"
    r"(?:(?P<colon>:)(?=(?P<rest>[^\n]?))|(?=\n|\Z))"
)
_CLOSING = re.compile(r"[\s*_=~#>\]-]+\Z")
_NUMBERING = re.compile(_NUMBER)
_RULED = re.compile(r"[ \t]*([-=~_*])\1{2,}[ \t]*(?=\n|\Z)")


def find_sections(text: str, headings: Sequence[Heading] = ()) -> tuple[Section, ...]:
    """The sections of a note, each to the next heading. `headings` are those the format itself marked.

    >>> [(s.name, s.title) for s in find_sections("# Chief Complaint\\ncough\\n\\nPLAN: rest\\n2. Allergies\\nnone")]
    [('chief_complaint', 'Chief Complaint'), ('plan', 'PLAN'), ('allergies', 'Allergies')]
    >>> find_sections("Patient denies allergies\\nMedication changed: see below")
    ()

    A heading of unknown words below a known one (a deeper level) keeps the name above it.
    """
    found = {heading.start: heading for heading in _written(text)}
    found |= {heading.start: heading for heading in headings}
    ordered = [found[start] for start in sorted(found)]
    sections: list[Section] = []
    above: tuple[int, str] = (9, OTHER)
    for number, heading in enumerate(ordered):
        end = ordered[number + 1].start if number + 1 < len(ordered) else len(text)
        name = section_name(heading.title, heading.code)
        if name == OTHER and heading.level > above[0]:
            name = above[1]
        else:
            above = (heading.level, name)
        sections.append(Section(name, heading.title, heading.start, end, heading.code))
    return tuple(sections)


def _written(text: str) -> Iterable[Heading]:
    """Headings that the text's own lines make."""
    # The newline put before the text lets the pattern begin with one, which the engine finds at memory speed, and makes
    # the offset of a match that of its line in the text itself.
    source = f"\n{text}"
    for match in _CANDIDATE.finditer(source):
        mark, words, colon, rest = match.groups()
        closed = _CLOSING.sub("", words)
        title = _NUMBERING.sub("", closed, count=1) or closed
        level = _level(source, match, mark.rstrip(), title, alone=not rest)
        if level is None and colon is None and " - " in title:
            title = title.partition(" - ")[0].rstrip()
            level = 1 if made_of_heading_words(title, colon=True) else None
        if level is not None:
            yield Heading(title, match.start(), level)


def _level(source: str, match: re.Match[str], mark: str, title: str, *, alone: bool) -> int | None:
    """The level of the heading that a line makes, or None where it makes none. `alone`: nothing follows on the line."""
    if mark.startswith("#"):
        return len(mark) if alone else None
    if mark:
        return 2 if _few_words(title) and _closes(match, mark, alone=alone) else None
    if made_of_heading_words(title, colon=match["colon"] is not None):
        return 1
    if alone and _few_words(title) and _RULED.match(source, match.end() + 1):
        return 1
    return 1 if title.isupper() and _capitals(source, match, title, alone=alone) else None


def _closes(match: re.Match[str], mark: str, *, alone: bool) -> bool:
    """`**Plan:** rest`, `**Plan**`, `=== Plan ===`, `[Plan]`: a mark closes on its line."""
    if match["colon"]:
        return mark in {"**", "__"} and (alone or match["rest"] in "*_ ")
    return match["words"].rstrip()[-1] in "*_=~->]"


def _few_words(title: str) -> bool:
    return bool(title) and len(title.split()) <= 8 and title[-1] not in ".,;"


def _capitals(source: str, match: re.Match[str], title: str, *, alone: bool) -> bool:
    """Unknown words in capitals: with a colon alone on their line or after a blank one, without after a blank one."""
    after_blank = match.start() == 0 or source[match.start() - 1] == "\n"
    letters = sum(character.isalpha() for character in title)
    if letters < 4 or not _few_words(title):
        return False
    return after_blank or alone if match["colon"] else alone and after_blank and letters >= 6
