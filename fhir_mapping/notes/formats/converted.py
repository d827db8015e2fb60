"""The result of every converter: text with the headings marked by the format, or a reason why there is none.

Converters of marked-up formats return one string in which sentinel characters enclose each heading, so that white
space can be normalised before offsets are computed; `finish` removes the sentinels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

MAX_CHARACTERS = 200_000
MAX_TITLE = 100
CELL = " | "
_OPEN, _CODE, _CLOSE = "\x01", "\x03", "\x02"
_MARK = re.compile("\x01(\\d)([^\x03]*)\x03([^\x02]*)\x02")
_SENTINELS = re.compile("[\x01-\x03]")
_SPACES = re.compile(r"[ \t\r\f\v\u00a0]+")


class UnreadableError(ValueError):
    """The bytes cannot be converted to text. `reason` is a code of `core.reasons.NOTE_REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Heading(NamedTuple):
    """A heading at character offset `start`; `level` counts from 1 (outermost), `code` is a LOINC section code."""

    title: str
    start: int
    level: int = 1
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """The text of a note and its headings."""

    text: str
    headings: tuple[Heading, ...] = ()
    warning: str | None = None
    """A reason code if the text is incomplete, such as `text-cut` or `pdf-pages-without-text`."""


def heading_mark(title: str, level: int, code: str | None = None) -> str:
    """Returns a heading enclosed in sentinels, for `finish`.

    >>> finish("x" + "\\n" + heading_mark("Plan", 2)).headings
    (Heading(title='Plan', start=2, level=2, code=None),)
    """
    return f"{_OPEN}{min(max(level, 1), 9)}{code or ''}{_CODE}{without_sentinels(title)}{_CLOSE}"


def without_sentinels(text: str) -> str:
    """Returns text from the input without sentinel characters."""
    return _SENTINELS.sub("", text)


def finish(marked: str, *, whole: bool = True) -> Converted:
    """Returns lines with single spaces, without blank ones, and headings at their offsets. `whole`: nothing is missing.

    A marked title is a heading if it fills its line or ends in a colon; bold words within prose are not.

    >>> finish(heading_mark("Plan:", 1) + " rest  now\\n\\n" + heading_mark("sepsis", 1) + " is gone").text
    'Plan: rest now\\nsepsis is gone'
    """
    lines: list[str] = []
    headings: list[Heading] = []
    length = 0
    for raw in marked.split("\n"):
        line = _SPACES.sub(" ", raw).strip()
        mark = _MARK.match(line)
        line = _SENTINELS.sub("", _MARK.sub(r"\3", line)).strip()
        if not line.strip(" |"):
            continue
        if mark is not None:
            title = mark[3].strip()
            if title and len(title) <= MAX_TITLE and (title.endswith(":") or line == title):
                headings.append(Heading(title.rstrip(": "), length, int(mark[1]), mark[2] or None))
        lines.append(line)
        length += len(line) + 1
    return cut(Converted("\n".join(lines), tuple(headings), None if whole else "text-cut"))


def cut(converted: Converted) -> Converted:
    """Returns at most MAX_CHARACTERS of text, with the warning `text-cut` if it was longer."""
    if len(converted.text) <= MAX_CHARACTERS:
        return converted
    kept = tuple(heading for heading in converted.headings if heading.start < MAX_CHARACTERS)
    return Converted(converted.text[:MAX_CHARACTERS], kept, "text-cut")
