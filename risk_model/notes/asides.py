"""What stands beside a result and is none: flags, reference ranges, dates, masked words.

K 5.9 (3.5-5.0) H      HR 88 (72 - 131)      Cr 1.2 on 3/4      K 2.9 L      Cr [**2-14**] 1.2
"""

from __future__ import annotations

import re
from typing import NamedTuple

_MONTH_DAY = r"(?:(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])|(?:1[3-9]|2\d|3[01])/(?:0?[1-9]|1[0-2]))"
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = rf"(?:{'|'.join(_MONTHS)})[a-z]{{0,6}}\.?"
_WRITTEN = rf"(?:{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?|\d{{1,2}} {_MONTH})(?:,? (?:19|20)\d\d)?"
DATE = rf"(?:{_WRITTEN}|{_MONTH_DAY}(?:/(?:\d{{4}}|\d{{2}}))?|(?:19|20)\d\d-\d\d-\d\d)(?![\d/])"
_CLOCK = r"(?:\d{1,2}:\d{2}|[0-2]\d[0-5]\d(?!\d))(?:\s?(?:am|pm|hrs|h)\b)?"
_PART = r"[<>]?\d+(?:[.,]\d+)?\s?%?(?:\s?°\s?[CF])?(?:\s?\([\d.]{1,6}\s?°?\s?[CF]?\))?"
_REFERENCE = r"(?:(?:ref\w*|normals?|nl|nml|range|interval|therapeutic|lab|24\s?h\w*|min|max|limits?|uln|lln)\W{0,3})*"
_RANGE = (
    rf"{_REFERENCE}{_PART}\s*(?:-|–|—|to)\s*{_PART}(?:\s?/\s?\d+\s*[-–]\s*\d+)?(?:\s?[A-Za-zµ^*/%][^\n()\[\]]{{0,14}})?"
)
_LIMIT = rf"{_REFERENCE}(?:[<>≤≥]=?|up to)\s*\d+(?:[.,]\d+)?[^\n()\[\]\d]{{0,12}}"
# After a result the flag for low is `L`, unless litres of something follow.
_FLAG = (
    r"(?-i:(?:HH|LL|H|L)\b|\((?:HH|LL|H|L)\)|\*{1,2}|\[(?:H|L)\])(?!/)"
    r"(?!\s?(?:nc|nasal|o2|oxygen|of|fluids?|bolus|ns|lr|ivf?|positive|pos|neg\w*|saline|crystalloids?|out|removed|via|per|"
    r"over|in|on|overnight|net)\b)"
)
# When or how it was measured: `1.2 on Monday, 2.3 on Tuesday`, `150/90 (sitting), 120/70`, `93% on RA -> 97%`.
_DAY = r"(?:mon|tues?|wed(?:nes)?|thurs?|fri|sat(?:ur)?|sun)(?:day)?\b"
_WHEN = (
    rf"(?:on |last |this )?{_DAY}|\b(?:yesterday|today|tonight|overnight|last night|initially|now)\b"
    r"|\b(?:this|yesterday|in the|late|early) (?:morning|afternoon|evening|am|pm)\b"
    r"|\b(?:on|at|in|prior to|before|after) "
    r"(?:admission|arrival|presentation|triage|rest|exertion|ed|er|clinic|home|midnight|noon|hd ?\d+)\b"
    r"|\b(?:sitting|standing|supine|lying)\b|\((?:[a-z][a-z ]{1,18}|hd ?\d+|pod ?\d+|r|l|left|right)\)"
    r"|\bon (?:ra|room air|bipap|cpap|hfnc|nrb|vent|\d+(?:\.\d+)? ?l(?:pm)?(?: nc)?)\b"
)
_ASIDE = re.compile(
    rf"(?:\s*(?:{_FLAG}|\((?:high|low|critical\w*|normal|!)\)"
    rf"|\(\d+\s?[-–]\s?\d+\)\s?/\s?\(\d+\s?[-–]\s?\d+\)|[(\[]\s*{_RANGE}\s*[)\]]|[(\[]\s*{_LIMIT}\s*[)\]]"
    rf"|[(\[]\d{{2,3}}/\d{{2,3}}\s?(?:-|–|to)\s?\d{{2,3}}/\d{{2,3}}[)\]]"
    rf"|[(\[]\s*(?:on |at )?(?P<inside>{DATE})[^()\n]{{0,12}}[)\]]"
    rf"|,?\s?\b(?:on|from)\s+(?P<on>{DATE})|(?<=\s)(?P<bare>{DATE})"
    rf"|{_WHEN}|(?:at|@)\s?{_CLOCK}|\(\s?(?:at |@ ?)?{_CLOCK}\s?\)))*",
    re.I,
)
_FLAGGED = re.compile(rf"\s?{_FLAG}", re.I)
_MASK = re.compile(r"\(\[\*\*[^\n]{0,80}?\*\*\]\)|\[\*\*[^\n]{0,80}?\*\*\]")


class Aside(NamedTuple):
    """Where what stands beside a result ends, and its day of the year, (year, month, day), if it gives one."""

    end: int
    day: tuple[int, int, int] | None


def aside(text: str, position: int) -> Aside:
    """Returns the end of flags, ranges and dates that begin at `position`.

    >>> aside("5.9 (3.5-5.0) H", 3), aside("1.2 on 3/4, 2.3", 3), aside("1.2 mg", 3)
    (Aside(end=15, day=None), Aside(end=10, day=(0, 3, 4)), Aside(end=3, day=None))
    """
    match = _ASIDE.match(text, position)
    if match is None:
        return Aside(position, None)
    date = match["inside"] or match["on"] or match["bare"]
    return Aside(match.end(), _day(date) if date else None)


def flagged(text: str, position: int) -> bool:
    """Whether the flag of a result begins at `position`: `K 2.9 L` is low, `3 L NC` is litres."""
    return _FLAGGED.match(text, position) is not None


def masked(text: str) -> str:
    """Returns the text with blanks for what de-identification masked: `[**2-14**]` is a date, and no value."""
    return _MASK.sub(lambda match: " " * len(match.group()), text) if "[**" in text else text


def _day(date: str) -> tuple[int, int, int]:
    if named := re.search("[a-z]+", date, re.I):
        written, day = re.search(r"(?:19|20)\d\d\Z", date), re.search(r"\d+", date)
        month = _MONTHS.index(named[0][:3].lower()) + 1
        return int(written[0]) % 100 if written else 0, month, int(day[0]) if day else 0
    numbers = [int(part) for part in re.split(r"[/-]", date)]
    if "-" in date:
        return numbers[0], numbers[1], numbers[2]
    year = numbers[2] if len(numbers) == 3 else 0
    return year % 100 if year else 0, numbers[0], numbers[1]
