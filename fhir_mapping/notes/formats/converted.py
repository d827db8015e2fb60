"""What every format becomes: text, the headings it marks itself, or a reason why there is none.

Readers of marked-up formats write one string in which a heading stands between sentinels, so that white space can be
settled afterwards without moving offsets; `finish` takes them out again.
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
    """The bytes give no text. `reason` is a stable code without patient data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Heading(NamedTuple):
    """A heading at character `start`; `level` counts from 1 (the outermost), `code` is a LOINC section code."""

    title: str
    start: int
    level: int = 1
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    text: str
    headings: tuple[Heading, ...] = ()
    warning: str | None = None
    """A reason code where the text is not everything, such as `text-cut` or `pdf-pages-without-text`."""


def heading_mark(title: str, level: int, code: str | None = None) -> str:
    """
    >>> finish("x" + "\\n" + heading_mark("Plan", 2)).headings
    (Heading(title='Plan', start=2, level=2, code=None),)
    """
    return f"{_OPEN}{min(max(level, 1), 9)}{code or ''}{_CODE}{without_sentinels(title)}{_CLOSE}"


def without_sentinels(text: str) -> str:
    return _SENTINELS.sub("", text)


def finish(marked: str, *, whole: bool = True) -> Converted:
    """Lines with single spaces and no blank ones, and the headings at their offsets. `whole`: nothing was left out.

    A marked title is a heading when it fills its line or ends in a colon; bold words within prose are none.

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
    """At most MAX_CHARACTERS of text; a cut is said."""
    if len(converted.text) <= MAX_CHARACTERS:
        return converted
    kept = tuple(heading for heading in converted.headings if heading.start < MAX_CHARACTERS)
    return Converted(converted.text[:MAX_CHARACTERS], kept, "text-cut")
