"""Finds the sections of a note by their headings.

There are two rules. A marked heading (Markdown, HTML, CDA, underlined, bold, capitals with a colon) starts a section
whatever its text; an unmarked one ("Plan", "Past Medical History: none", "2. Allergies") only if it consists of known
heading words. A line of prose never starts a section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fhir_mapping.core.values import Section
from fhir_mapping.notes.formats.converted import Heading
from fhir_mapping.notes.section_names import OTHER, is_heading_text, section_name

# A line that may be a heading: it ends, or has a colon, within 80 characters.
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
    """Returns the sections of a note, each up to the next heading. `headings` are those marked by the note's format.

    >>> [(s.name, s.title) for s in find_sections("# Chief Complaint\\ncough\\n\\nPLAN: rest\\n2. Allergies\\nnone")]
    [('chief_complaint', 'Chief Complaint'), ('plan', 'PLAN'), ('allergies', 'Allergies')]
    >>> find_sections("Patient denies allergies\\nMedication changed: see below")
    ()

    An unknown heading at a deeper level than a known one keeps the known one's name.
    """
    found = {heading.start: heading for heading in _headings_in(text)}
    found |= {heading.start: heading for heading in headings}
    ordered = [found[start] for start in sorted(found)]
    sections: list[Section] = []
    parent: tuple[int, str] = (9, OTHER)
    for number, heading in enumerate(ordered):
        end = ordered[number + 1].start if number + 1 < len(ordered) else len(text)
        name = section_name(heading.title, heading.code)
        if name == OTHER and heading.level > parent[0]:
            name = parent[1]
        else:
            parent = (heading.level, name)
        sections.append(Section(name, heading.title, heading.start, end, heading.code))
    return tuple(sections)


def _headings_in(text: str) -> Iterable[Heading]:
    """Yields the headings among the lines of the text."""
    # With a newline in front, the pattern can start with one, which is fast to search, and the offset of a match is
    # that of its line in `text`.
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
    """Returns the level of `# Plan`, `**Plan:** rest`, `=== Plan ===`, `[Plan]`; None if the mark is not closed."""
    if mark[0] == "#":
        return len(mark.rstrip()) if not rest else None
    if not _is_short(title):
        return None
    if colon:
        return 2 if mark in {"**", "__"} and (not rest or rest in "*_ ") else None
    if mark == "[" and not title.isupper() and section_name(title) == OTHER:
        return None  # a remark in brackets
    return 2 if words.rstrip()[-1] in "*_=~->]" else None


def _plain_level(source: str, match: re.Match[str], title: str, colon: str | None, rest: str | None) -> int | None:
    """Returns the level of an unmarked heading: heading words, an underlined line, or capitals; None for prose."""
    if is_heading_text(title, colon=colon is not None):
        return 1
    if not colon and " - " in title and is_heading_text(title.partition(" - ")[0].rstrip(), colon=True):
        return 1
    if not rest and source.startswith(_RULES, match.end() + 1) and _is_short(title):
        return 1
    return 1 if title.isupper() and _is_capital_heading(source, match, title) else None


def _is_short(title: str) -> bool:
    return bool(title) and len(title.split()) <= 8 and title[-1] not in ".,;"


def _is_capital_heading(source: str, match: re.Match[str], title: str) -> bool:
    """Whether a title in capitals is a heading: after a blank line, or, with a colon, alone on its line."""
    after_blank = match.start() == 0 or source[match.start() - 1] == "\n"
    letters = sum(character.isalpha() for character in title)
    if letters < 4 or not _is_short(title):
        return False
    return after_blank or not match["rest"] if match["colon"] else after_blank and letters >= 6
