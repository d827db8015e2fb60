"""Sections of a note: where a heading stands, in the styles clinicians and systems write them, and what it opens.

Two measures. A heading that is marked as one (Markdown, HTML, CDA, underlined, bold, capitals with a colon) opens a
section whatever its words; words without a mark ("Plan", "Past Medical History: none", "2. Allergies") do so only when
all of them are words headings are made of. A line of prose never opens a section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fhir_mapping.core.values import Section
from fhir_mapping.notes.formats.converted import Heading
from fhir_mapping.notes.section_names import OTHER, is_heading_text, section_name

# A line that might open a section: it ends, or has a colon, within 80 characters.
_CANDIDATE = re.compile(
    r"\n[ \t>]{0,8}"
    r"(?P<mark>\#{1,6}[ \t]+|\*\*|__|={2,}[ \t]*|-{2,}[ \t]+|~{2,}[ \t]*|\*{3,}[ \t]*|<{2}|\[)?"
    r"(?:\(?(?:\d{1,2}(?:\.\d{1,2})?|[IVX]{1,4}|[A-Z])[.)][ \t]+)?"
    r"(?P<words>[A-Za-z][^\n:|]{0,78}+|\d[^\n:|]{0,78}+)"
    r"(?:(?P<colon>:)(?=(?P<rest>[^\n]?))|(?=\n|\Z))"
)
_CLOSING = " \t*_=~#>]-"
_RULES = ("---", "===", "~~~", "***", "___")


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
        title = words.rstrip(_CLOSING)
        if mark:
            level = _marked_level(mark, words, title, colon, rest)
        else:
            level = _plain_level(source, match, title, colon, rest)
            title = title.partition(" - ")[0].rstrip()
        if level is not None:
            yield Heading(title, match.start(), level)


def _marked_level(mark: str, words: str, title: str, colon: str | None, rest: str | None) -> int | None:
    """The level of `# Plan`, `**Plan:** rest`, `=== Plan ===`, `[Plan]`; None where the mark does not close."""
    if mark[0] == "#":
        return len(mark.rstrip()) if not rest else None
    if not _few_words(title):
        return None
    if colon:
        return 2 if mark in {"**", "__"} and (not rest or rest in "*_ ") else None
    if mark == "[" and not title.isupper() and section_name(title) == OTHER:
        return None  # an aside in brackets
    return 2 if words.rstrip()[-1] in "*_=~->]" else None


def _plain_level(source: str, match: re.Match[str], title: str, colon: str | None, rest: str | None) -> int | None:
    """The level of a heading without a mark: heading words, an underlined line, or capitals; None for prose."""
    if is_heading_text(title, colon=colon is not None):
        return 1
    if not colon and " - " in title and is_heading_text(title.partition(" - ")[0].rstrip(), colon=True):
        return 1
    if not rest and source.startswith(_RULES, match.end() + 1) and _few_words(title):
        return 1
    return 1 if title.isupper() and _capitals(source, match, title) else None


def _few_words(title: str) -> bool:
    return bool(title) and len(title.split()) <= 8 and title[-1] not in ".,;"


def _capitals(source: str, match: re.Match[str], title: str) -> bool:
    """Unknown words in capitals: with a colon alone on their line or after a blank one, without after a blank one."""
    after_blank = match.start() == 0 or source[match.start() - 1] == "\n"
    letters = sum(character.isalpha() for character in title)
    if letters < 4 or not _few_words(title):
        return False
    return after_blank or not match["rest"] if match["colon"] else after_blank and letters >= 6
