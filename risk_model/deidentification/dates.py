"""Dates and ages in text. A date is shifted and written as it was, so that intervals between two dates stay.

    found(text, timedelta(days=-400), year=2024) -> the dates of a text, each with what takes its place

A date without a year is taken for one of `year`. `03/04/2021` is March 4 unless another date of the text has a first
number over 12.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta

from risk_model.deidentification.categories import Category
from risk_model.deidentification.patterns import Identifier

OLDEST = 89
"""Ages over this one are one category (45 CFR 164.514(b)(2)(i)(C))."""
_NAMES = [name.lower() for name in calendar.month_name]
_WEEKDAYS = list(calendar.day_name)
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?P<suffix>st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d{2}|'\d{2})"
_NO_DOSE = (
    r"(?!\s*(?:mg|mcg|g\b|ml|units?|tab|days?|hours?|hrs?|weeks?|months?|years?|yrs?|%|/\d|:\d|\.\d|\d|strength|pain|motor"
    r"|systolic|diastolic|murmur|edema|times|x\b|of\b|doses?|in\b|extremit|throughout|blood|bottles?|criteria|positive"
    r"|points|on the))"
)
_BEFORE = (
    r"(?:on|since|from|until|till|dated?|admitted|discharged|by|through|thru|to|and|between|before|after|of|due|started|stopped"
    r"|seen|placed|resulted|cultures?|cx|bcx|ucx|cxr|ct|mri|echo|tte|ekg|ecg|surgery|visit|week of|appointment|appt|hd|pod"
    r"|last|mon|tues?|wed|thu|thurs?|fri|sat|sun)\s*[:,(]?\s*"
)
_ISO = re.compile(
    r"(?<![\d-])(?P<year>(?:18|19|20)\d{2})(?P<one>[-/.])(?P<month>\d{1,2})(?P=one)(?P<day>\d{1,2})(?=\D|$)"
)
_COMPACT = re.compile(
    r"(?<![\w.])(?P<year>(?:19|20)\d{2})(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])(?![\w.])"
)
_SLASHED = re.compile(
    r"(?<![\d/.-])(?P<first>\d{1,2})(?P<one>[-/.])(?P<second>\d{1,2})(?P=one)(?P<year>(?:18|19|20)\d{2}|\d{2})(?![\d/-]|\.\d)"
)
_SHORT = re.compile(
    rf"(?:(?<=^)|(?<=\n)|\b{_BEFORE})(?P<whole>(?P<first>\d{{1,2}})(?P<one>[/-])(?P<second>\d{{1,2}}))(?![\d/-]){_NO_DOSE}",
    re.I,
)
_SLASHED_ALONE = re.compile(r"(?P<first>\d{1,2})(?P<one>/)(?P<second>\d{1,2})")
_TIMED = re.compile(
    r"(?<![\d/.-])(?P<whole>(?P<first>0?[1-9]|1[0-2])(?P<one>/)(?P<second>0?[1-9]|[12]\d|3[01]))(?=:?\s+(?:at\s+)?\d{1,2}:?\d{2}\b|:\s|\))"
)
_MONTH_DAY = re.compile(
    rf"\b{_MONTH}(?:\.?\s+|-){_DAY}(?:\s*(?P<range>-|\u2013|to)\s*\d{{1,2}}(?:st|nd|rd|th)?)?(?:(?:,?\s+|-){_YEAR}\b|\b{_NO_DOSE})",
    re.I,
)
_DAY_MONTH = re.compile(
    rf"(?<![\d./]){_DAY}(?P<between>\s+of\s+|\.\s*|[ -]|(?=[A-Za-z]{{3,9}}[ -]?\d\d)){_MONTH}\.?(?:,?[ -]{_YEAR}|[ -]?(?P<short>\d{{2}}|(?:19|20)\d{{2}}))?(?![\w])",
    re.I,
)
_MONTH_YEAR = re.compile(rf"\b{_MONTH}\.?(?P<between>,?\s+(?:of\s+)?|-|/){_YEAR}(?!\w)", re.I)
_NUMBER_YEAR = re.compile(r"(?<![\d/.-])(?P<whole>(?P<month>0?[1-9]|1[0-2])/(?P<year>(?:19|20)\d{2}))(?![\d/])")
_IN_YEAR = re.compile(
    r"\b(?:in|since|from|circa|ca\.?|until|year|during|early|late|mid|summer|fall|autumn|winter|spring|by|before|after|of"
    r"|around|approximately|dated?|class of|to|and|[-(])\s*(?:the year\s+)?(?P<year>(?:19|20)\d{2})(?![\d/-]|\.\d|\s*(?:ml|mg|cc|units|g\b|hours|hrs|kcal|cells|copies))", re.I
)  # fmt: skip
# Of other languages: recognised and not shifted.
_FOREIGN = re.compile(
    r"(?<![\d./])(?:[12]?\d|3[01])\.?[ ]+(?:de )?(?:januar|februar|m\u00e4rz|mai|juni|juli|oktober|dezember|janvier|f\u00e9vrier|mars|avril|juin|juillet"
    r"|ao\u00fbt|septembre|octobre|novembre|d\u00e9cembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre"
    r"|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre)(?:[ ]+(?:de )?(?:\d{4}|\d{2})\b)?", re.I
)  # fmt: skip
_RANGE = re.compile(
    r"(?<![\d/.-])(?P<from>(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01]))\s*(?:-|\u2013|to|through)\s*(?P<to>(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01]))(?![\d/-]|\s*(?:strength|motor|pain|systolic|murmur))"
)
_SHORT_YEAR = re.compile(
    r"\b(?:in|since|from|until|of|circa|ca\.?|early|late|around|summer|winter|spring|fall)\s+(?P<value>['\u2019]\d{2})(?!\d)",
    re.I,
)
_WEEKDAY = re.compile(rf"\b(?P<name>{'|'.join(_WEEKDAYS)})(?P<plural>s?)\b", re.I)
_SHORT_WEEKDAY = re.compile(
    r"\b(?P<name>Mon|Tues?|Wed|Thurs?|Thu|Fri|Sat|Sun)\b\.?,?(?=\s+(?:\d{1,2}[/-]\d|\d{4}-|[A-Z][a-z]{2,8}\.? \d|\d{1,2} [A-Z]))"
)
_BIRTH = re.compile(
    r"\b(?:dob|d\.o\.b\.?|date of birth|birth ?date|born(?: on)?|birthday)\b[\s:=(]*(?P<value>(?:\d{1,4}[-/. ]){2}\d{2,4}|"
    rf"{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}|\d{{1,2}}[ -][A-Za-z]{{3,9}}[ -]\d{{2,4}}|(?:in )?(?:18|19|20)\d{{2}})", re.I
)  # fmt: skip
_HOLIDAY = re.compile(
    r"\b(?:christmas(?: eve| day)?|thanksgiving|new year'?s(?: eve| day)?|easter(?: sunday)?|halloween|memorial day|labor day"
    r"|independence day|(?:the )?(?:fourth|4th) of july|veterans'? day|mother'?s day|father'?s day|valentine'?s day"
    r"|hanukkah|passover|ramadan|eid|diwali|good friday|boxing day|martin luther king day|mlk day|presidents'? day)\b", re.I
)  # fmt: skip
_TENS = r"ninety(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?|(?:one|a) hundred(?:(?: and)?[ -]\w+)?"
_OLD = r"(?P<value>9\d|1[0-2]\d)"
_AGES = (
    re.compile(
        rf"(?<![\d.]){_OLD}(?=(?:st|nd|rd|th)? ?birthday|[\s-]*(?:year|yr|y)s?\.?[\s-]*(?:old|o\b|/o)|\s*y\.?\s?/?\s?o\b|\s*(?:years?|yrs?)(?: of age)\b|yo\b)",
        re.I,
    ),
    re.compile(
        rf"\b(?:aged?|age is|turn(?:ed|s|ing)|age of)\s*[:=]?\s*{_OLD}(?!\d|\.\d|\s*(?:%|mmhg|kg|percentile|bpm))", re.I
    ),
    re.compile(rf"(?<![\d./]){_OLD}(?=\s?/?[MFmf]\b)"),
    re.compile(
        r"\b(?:in (?:his|her|their|the)|early|mid|late)[ -]+(?P<value>9\d'?s|nineties|1[01]0'?s|hundreds)\b", re.I
    ),
    re.compile(rf"\b(?P<value>{_TENS})(?=[\s-]*(?:year|yr)s?[\s-]*(?:old|of age)|\s*years\b)", re.I),
    re.compile(r"\b(?P<value>nonagenarian|centenarian)\b", re.I),
)


def found(text: str, offset: timedelta, year: int) -> Iterator[Identifier]:
    """Yields dates and ages with their surrogates, in order of precedence; they may overlap."""
    for match in _BIRTH.finditer(text):
        yield Identifier(*match.span("value"), Category.DATE)
    day_first = any(int(m["first"]) > 12 >= int(m["second"]) for m in _SLASHED.finditer(text))
    for pattern, write in _written(day_first):
        for match in pattern.finditer(text):
            start, end = match.span("whole" if "whole" in pattern.groupindex else 0)
            new = _tried(write, match, offset, year)
            # Two numbers that are no day of a year are something else, such as a blood pressure.
            if new is not None or pattern not in (_SHORT, _TIMED):
                yield Identifier(start, end, Category.DATE, new)
    for match in _RANGE.finditer(text):
        if match["from"].endswith("/5") and match["to"].endswith("/5"):
            continue  # strength: 4/5-5/5
        for group in ("from", "to"):
            parts = _SLASHED_ALONE.fullmatch(match[group])
            new = None if parts is None else _tried(lambda m, o, y: _slashed(m, o, y, day_first), parts, offset, year)
            yield Identifier(*match.span(group), Category.DATE, new)
    for match in _SHORT_YEAR.finditer(text):
        full = _century(int(match["value"][1:]), year)
        shifted = _shifted(full, 7, 2, offset)
        new = None if shifted is None else f"'{shifted.year % 100:02d}"
        yield Identifier(*match.span("value"), Category.DATE, new)
    for match in _IN_YEAR.finditer(text):
        shifted = _shifted(int(match["year"]), 7, 2, offset)
        yield Identifier(*match.span("year"), Category.DATE, None if shifted is None else str(shifted.year))
    for pattern in (_WEEKDAY, _SHORT_WEEKDAY):
        for match in pattern.finditer(text):
            yield Identifier(*match.span("name"), Category.DATE, _weekday(match["name"], offset))
    for pattern in (_HOLIDAY, _FOREIGN):
        for match in pattern.finditer(text):
            yield Identifier(*match.span(), Category.DATE)
    for pattern in _AGES:
        for match in pattern.finditer(text):
            yield Identifier(*match.span("value"), Category.AGE, "90+")


_Writer = Callable[["re.Match[str]", timedelta, int], "str | None"]


def _written(day_first: bool) -> Iterator[tuple[re.Pattern[str], _Writer]]:
    def slashed(match: re.Match[str], offset: timedelta, year: int) -> str | None:
        return _slashed(match, offset, year, day_first)

    yield _ISO, _iso
    yield _COMPACT, _iso
    yield _SLASHED, slashed
    yield _DAY_MONTH, _named
    yield _MONTH_DAY, _named
    yield _MONTH_YEAR, _named
    yield _NUMBER_YEAR, _number_year
    yield _SHORT, slashed
    yield _TIMED, slashed


def _tried(write: _Writer, match: re.Match[str], offset: timedelta, year: int) -> str | None:
    """Returns the shifted date, None where it is none of the calendar: then a placeholder takes its place."""
    try:
        return write(match, offset, year)
    except (ValueError, OverflowError):
        return None


def _shifted(year: int, month: int, day: int, offset: timedelta) -> date | None:
    try:
        return date(year, month, day) + offset
    except (ValueError, OverflowError):
        return None


def _day(value: int, like: str) -> str:
    """The number, with a leading zero where the original had two digits."""
    return f"{value:02d}" if len(like) == 2 else str(value)


def _iso(match: re.Match[str], offset: timedelta, _year: int) -> str | None:
    new = _shifted(int(match["year"]), int(match["month"]), int(match["day"]), offset)
    if new is None:
        return None
    sign = match.groupdict().get("one") or ""
    return sign.join((f"{new.year}", _day(new.month, match["month"]), _day(new.day, match["day"])))


def _slashed(match: re.Match[str], offset: timedelta, year: int, day_first: bool) -> str | None:
    given = match.groupdict().get("year")
    full = year if given is None else int(given) if len(given) == 4 else _century(int(given), year)
    first, second = int(match["first"]), int(match["second"])
    # German dates have dots and the day first.
    swapped = day_first or first > 12 or match["one"] == "."
    month, day = (second, first) if swapped else (first, second)
    new = _shifted(full, month, day, offset)
    if new is None:
        return None
    pair = (new.day, new.month) if swapped else (new.month, new.day)
    parts = [_day(pair[0], match["first"]), _day(pair[1], match["second"])]
    if given is not None:
        parts.append(f"{new.year}"[-len(given) :])
    return match["one"].join(parts)


def _century(two: int, year: int) -> int:
    """The year with these last digits that is not after the next one."""
    full = year - year % 100 + two
    return full if full <= year + 1 else full - 100


def _number_year(match: re.Match[str], offset: timedelta, _year: int) -> str | None:
    new = _shifted(int(match["year"]), int(match["month"]), 15, offset)
    return None if new is None else f"{_day(new.month, match['month'])}/{new.year}"


def _named(match: re.Match[str], offset: timedelta, year: int) -> str | None:
    parts = match.groupdict()
    if parts.get("range"):
        return None
    group_of_year = "short" if parts.get("short") else "year"
    given = parts.get(group_of_year)
    full = year if given is None else int(given) if len(given) == 4 else _century(int(given.strip("'")), year)
    month = next(number for number, name in enumerate(_NAMES) if name.startswith(parts["month"].lower()[:3]) and number)
    new = _shifted(full, month, int(parts.get("day") or 15), offset)
    if new is None:
        return None
    text, begin = match[0], match.start()
    # From the end, so that the places before stay.
    for group in sorted(
        (g for g in (group_of_year, "day", "suffix", "month") if parts.get(g)), key=match.start, reverse=True
    ):
        if group == "day":
            value = _day(new.day, parts["day"])
        elif group == "month":
            value = _like(_NAMES[new.month], parts["month"])
        elif group == "suffix":
            value = "th"
        else:
            value = (
                f"{new.year}"
                if len(parts[group]) == 4
                else ("'" if "'" in parts[group] else "") + f"{new.year % 100:02d}"
            )
        start, end = match.start(group) - begin, match.end(group) - begin
        text = text[:start] + value + text[end:]
    return text


def _like(name: str, original: str) -> str:
    """The month as short and in the case of the original."""
    name = name if len(original) > 4 or original.lower() == "may" or original.lower() in _NAMES else name[:3]
    return name.upper() if original.isupper() else name.capitalize() if original[0].isupper() else name


def _weekday(name: str, offset: timedelta) -> str:
    number = next(n for n, full in enumerate(_WEEKDAYS) if full.lower().startswith(name.lower()[:3]))
    new = _WEEKDAYS[(number + offset.days) % 7]
    new = new if name.lower().endswith("day") else new[:3]
    return new.upper() if name.isupper() else new if name[0].isupper() else new.lower()
