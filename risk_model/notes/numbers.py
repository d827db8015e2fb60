"""Numbers after a concept's name in running text: `Cr 3.4 mg/dL`, `lactate was 4.1, now 2.2`, `UO 350 cc over 12 h`.

A number counts only if it follows the name with at most a few linking words between, is not a date, time or duration,
and its unit, if any, fits the concept. Everything else is left out, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from fhir_mapping.terminology import NoteConcept, definitions, note_phrases
from knowledge_index import Temporality
from risk_model.notes.asides import aside, flagged

MOST_LINKS = 16
MOST_NUMBERS = 8
URINE_RATE = "urine_rate"
_HOURS = r"(?:hours?|(?-i:HRS|[Hh]rs?|h))\b"  # `4.1H` is a value flagged high, `98.6 HR` precedes a heart rate
_TIME = rf"(?:(?:at|@)\s*)?\d{{1,2}}:\d{{2}}(?:\s?(?:am|pm|h|hrs)\b)?|(?:at|@)\s*[0-2]\d[0-5]\d(?:\s?{_HOURS})?"
_PERIOD = (
    rf"(?:(?:over|in|during|for)\s+)?(?:the\s+)?(?:last|past|previous|first)\s+\d{{1,2}}\s?{_HOURS}"
    rf"|over\s+(?:the\s+)?\d{{1,2}}\s?{_HOURS}"
)
_LINKING = """
    a about again and approx approximately around arterial at averaging back baseline been came checked climbed
    climbing continues count currently decreased down dropped elevated fallen falling fell from had has have her
    high his improved improving in increased initial initially is latest level levels low made making max maximum
    measured measures min minimum morning most nadir normal now of on only our overnight peak peaked persistently
    previously prior raised reached reading recent recheck rechecked remained remaining remains repeat reported
    result results rise risen rising rose running score showed shows slightly stable still the then this to today
    total totalled trended trending up value venous very was were with went worse worsened worsening yesterday admission
    arrival presentation markedly mildly average averaged for acceptable almost back barely be became become been best
    between bumped ca circa clear cleared clearing climbs come comes coming crept critically currently dangerously
    decrease decreases decreasing deteriorated deteriorating dip dipped dipping documented doubled down drop dropping
    drops edged estimated fairly fall falls first flat fluctuated fluctuates fluctuating found further gone gradually
    grossly highest hit hovered hovering hovers increase increases jumped just just later lowest measuring moderately
    much near nearly normalised normalized noted nudged observed peaking plateaued plummeted profoundly quite ranged
    ranges ranging rapidly rather reached reaches reading reads reassuring recorded recovered recovering reduced
    returned returning returns revealed reveals rises roughly sat scored scoring serial settled settling severely
    sharply significantly sits sitting slid slowly somewhat spiked standing stands static steadily steady stood
    poc trend trends b/l bl habitual usually strikingly tapered
    that titrated touched tripled unchanged weaned weaning worst good adequate satisfactory poor
"""
_WORDS = "|".join(sorted(_LINKING.split(), key=len, reverse=True))
_SPAN = rf"(?:years?|yrs?|y/?o|days?|d|weeks?|wks?|months?|minutes?|mins?|times|x|hourly|{_HOURS[:-2]})"
_NUMBER = (
    r"(?P<bound>[<>≤≥]=?\s*|(?:less|greater|more|lower|higher)\s+than\s+|(?:above|below|under|over)\s+)?"
    r"(?P<sign>[-−])?(?P<number>\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:[.,]\d+)?|\.\d+)"
    r"(?!\d|[.,]\d|[:/](?!15\b)\d|(?:st|nd|rd|th)\b|\s?\+(?!\d))"
    rf"(?!(?:\s?(?:-|–|to|and|or)\s?\d+)?\s?-?{_SPAN}\b)"
)
# What became of it between two values: `6.2 trending down to 2.1`, `2.8, repleted, now 3.9`.
_COURSE = (
    r"[,;]?\s*(?:\b(?:and|has|is|was|since|which|trend(?:ed|ing)|clear(?:ed|ing)|improv(?:ed|ing)|correct(?:ed|ing)|replet(?:ed|ion)|"
    r"replaced|treated|transfused|down|up|back|increas(?:ed|ing)|decreas(?:ed|ing)|dropp(?:ed|ing)|f(?:ell|alling)|ris(?:en|ing)|rose|"
    r"came|went|responded|(?:down|up)trend(?:ed|ing)|given\s(?:\d+\sunits\s)?[a-z]+|\d+\sunits?(?:\sof\s[a-z]+)?|with|after|fluids?|ivf|bolus)\b,?\s+){0,5}"
)
_PLACED = (
    "from|was|up|down|baseline|b/l|bl|dry|usual(?:ly)?|premorbid|previously|prior|peak|max|min|nadir|best|worst|highest|lowest|"
    "yesterday|initially"
)
# `->`, `–>`, `~>`, `=>`, `>>`, `→`, `⇒`, `↑`: people type an arrow in many ways.
_ARROW = r"(?:[-–—~=_.]*(?:[→⇒⟶➔➜➝➞➙›»⟹↦⇨▶►]|>(?!=))+|[↑↓↗↘⬆⬇⇑⇓]+|(?<=\s)[—–](?=\s)|—(?=\s?\d))"
NEXT_NUMBER = re.compile(
    rf"(?:'?s\b)?\s*(?:{_ARROW}(?=\s*(?:[\d.~<>=]|(?:now|to)\b))|\.{{2,}}\s?(?=\d)|…\s?(?=\d)|[-–](?=\d)"
    rf"|{_COURSE}\b(?:and\s+)?(?:to|then|now|today|currently|later|subsequently|repeat|recheck(?:ed)?)\b"
    rf"|[;,]\s*(?:and\s+)?(?=(?:now|then|today|currently|later|{_PLACED})\b)|,\s*(?=\d)|\(\s*(?=(?:{_PLACED}|\d+)\b)"
    r"|(?=\s(?:from|(?:up|down) from|was)\b))",
    re.I,
)
LATER = re.compile(
    rf"{_ARROW}|\.{{2,}}|…|\b(?:to|then|now|today|currently|later|subsequently|repeat|recheck(?:ed)?)\b", re.I
)
_BETWEEN = re.compile(r"\bbetween\b", re.I)
_COLON = re.compile(r"\s*[:=]?\s*")
_CHANGE = re.compile(r"\b(?:up|down|lost|gained)(?: by)?\s*\Z", re.I)
_FAHRENHEIT = "[degF]"
_RANGE_SIGNS = frozenset({"-", "–", "—", "to", "and"})
_AND = re.compile(r"\s+and(?=\s+\d)", re.I)
EARLIER = re.compile(
    r"\b(?:from|was|initial(?:ly)?|peak(?:ed)?|max(?:imum)?|nadir|yesterday|overnight|admission|arrival|presentation)\b",
    re.I,
)
_FROM = re.compile(r"\bfrom\s*\Z", re.I)  # whatever precedes it: `down to 1.8 from 3.4`
NOW = re.compile(r"\b(?:now|today|currently)\b", re.I)
PAST = re.compile(r"\b(?:baseline|b/l|bl|dry|previously|prior|premorbid|usual(?:ly)?|habitual)\b", re.I)
_THEN = (
    r"(?:baseline(?! (?:is )?(?:unknown|not known|unclear|n/?a\b|pending|\?))"
    r"|premorbid|previously|last (?:year|month|week|admission)|\d+ (?:days?|weeks?|months?|years?) "
    r"(?:ago|prior|earlier|before)|(?:a|one|two|three|six|several|few) (?:days?|weeks?|months?|years?) (?:ago|prior)|"
    r"(?:in|on) (?:(?:19|20)\d\d|clinic)|at (?:last )?discharge|as an outpatient"
    r"|(?:on|in|at|from) (?:prior|previous|old|outside|outpatient) (?:labs?|admission|visit|check|value|results?))"
)
PAST_AFTER = re.compile(
    rf"\s*(?P<inside>\()?\s*(?:at |on |during |in |his |her |which is |is )*{_THEN}"
    r"(?!(?(inside)[^)\n;\d]{0,25}\d|(?!)))"
    r"(?!\s*(?:(?:is|was|of|around|about|approx\w*|near|at|ca\.?|circa|[:=~≈<>-])\s*)*\d)",
    re.I,
)
_EARLIER_AFTER = re.compile(
    r"\s*\(?\s*(?:(?:on|at) (?:admission|arrival|presentation)|yesterday|initially|last night)\b", re.I
)
_SERIES_END = re.compile(r"\s*(?:[,;)\n]|\.(?!\d)|\b(?:now|today|this morning|after|post|following)\b|\Z)", re.I)
# A unit or dose that does not fit the concept: `potassium 40 mEq PO`, `magnesium 2 g`, `BUN 64, 3 L positive`.
_FOREIGN = re.compile(
    r"\s?(?:%|mg|g|mcg|ug|µg|ng|pg|kg|meq|mmol|mol|units?|iu|ml|mls|cc|l|tabs?|amps?|puffs?|kcal|cm|mm|lb|lbs|french|fr)"
    r"(?:/[a-z0-9µ]+)*(?![a-z0-9])",
    re.I,
)
_TOKEN = re.compile(r"\s?([A-Za-z%µ°/][^\s,;.)]+)")
_VOLUME = re.compile(
    r"\s?(?P<unit>mls?|cc|millilit(?:er|re)s?|lit(?:er|re)s?|l)\s*(?:/|per|over|in|for|during|x|since)?\s*(?:the\s+)?(?:last|past|previous|first)?\s*"
    rf"(?:(?P<hours>\d{{1,2}})?[\s-]?{_HOURS}|(?P<day>day|d)\b)",
    re.I,
)
_PERIOD_BEFORE = re.compile(rf"(\d{{1,2}})\s?{_HOURS}", re.I)
_PER = re.compile(r"\s?/\s?")


@dataclass(frozen=True, slots=True)
class Number:
    """A value in the concept's canonical unit, with its time as far as its own words give it; it ends at `end` in the
    text."""

    value: float
    unit_assumed: bool
    earlier: bool
    temporality: Temporality
    now: bool
    """Stated as current, whatever the words before the name are about: `baseline creatinine 1.0, now 3.4`."""
    end: int
    day: tuple[int, int, int] | None = None
    """The date that stands beside it."""


@dataclass(frozen=True, slots=True)
class _Grammar:
    """Patterns of one concept: the words allowed before its first number, before the next, and its units."""

    first: re.Pattern[str]
    unit: re.Pattern[str]
    before: re.Pattern[str]
    """A number with its unit right before the name: `20 cc/hr of urine`, `50 % FiO2`."""
    units: dict[str, str]


def numbers(text: str, position: int, concept: NoteConcept) -> Iterator[Number]:
    """Returns the values of a concept whose name ends at `position`, in reading order, without censored and implausible
    ones.

    >>> gives = lambda text: [(n.value, n.earlier) for n in numbers(text, 2, note_phrases().concepts["creatinine"])]
    >>> gives("Cr 3.4 mg/dL"), gives("Cr rose from 1.2 to 3.4"), gives("Cr 2 hours later"), gives("Cr >10")
    ([(3.4, False)], [(1.2, True), (3.4, False)], [], [])
    """
    found = list(_series(text, position, concept))
    newest = max((number.day for number, _ in found if number is not None and number.day), default=None)
    for place, (number, _) in enumerate(found):
        if number is None:
            continue
        overtaken = any(later for _, later in found[place + 1 :])
        if number.day is not None and newest is not None:
            overtaken = number.day < newest
        yield replace(number, earlier=overtaken or (number.earlier and number.day is None))


def number_before(text: str, start: int, concept: NoteConcept) -> tuple[float, int] | None:
    """Returns the value right before a name that begins at `start`, with a unit of its own, and its start."""
    grammar, definition = _grammar(concept.definition.name), concept.definition
    begin = max(0, start - 40)
    match = grammar.before.search(text, begin, start)
    if match is None:
        return None
    unit = grammar.units[_folded(match["unit"])]
    value = definition.convert(float(match["number"].replace(",", ".")), unit)
    inside = value is not None and definition.low <= value <= definition.high
    return (round(value, 6), match.start()) if inside and value is not None else None


def _series(text: str, position: int, concept: NoteConcept) -> Iterator[tuple[Number | None, bool]]:
    """Returns each number, None if it is not usable, and whether it is later than those before it."""
    grammar = _grammar(concept.definition.name)
    lead = aside(text, _COLON.match(text, position).end())  # type: ignore[union-attr]
    match = grammar.first.match(text, lead.end if lead.day or text[lead.end - 1] in ")]" else aside(text, position).end)
    joined, past, bracketed, last = "", False, False, position
    for _ in range(MOST_NUMBERS):
        if match is None or _list_item(text, match):
            return
        link = joined + match["link"] if joined else re.sub(r"\bwas\b", "", match["link"], flags=re.I)
        number, end = _number(text, match, link, concept, grammar)
        beside = aside(text, end)
        serial = joined.strip() in {",", "and"}
        if serial and (number is None or (beside.end == end and not _SERIES_END.match(text, end))):
            return
        if number is not None:
            # Of a range both ends are of its time, `baseline 1.2-1.4`, and so is what follows in its brackets.
            sign = joined.strip().lstrip("'s").strip()
            ranged = past and (sign in _RANGE_SIGNS or (bracketed and ")" not in text[last : match.start("number")]))
            bracketed = bracketed or "(" in link
            number = replace(
                number, day=beside.day or lead.day, temporality=Temporality.HISTORICAL if ranged else number.temporality
            )
            past = number.temporality is Temporality.HISTORICAL
        last = end
        yield number, bool(LATER.search(link)) and not PAST.search(link)
        place, end = end, beside.end
        more = _BETWEEN.search(link) or beside.end > place
        step = NEXT_NUMBER.match(text, end) or (_AND.match(text, end) if more else None)
        if step is None:
            return
        joined = step.group()
        lead = aside(text, step.end())
        match = grammar.first.match(text, lead.end if lead.day else step.end())


def _number(
    text: str, match: re.Match[str], link: str, concept: NoteConcept, grammar: _Grammar
) -> tuple[Number | None, int]:
    raw = match["number"]
    plain = raw.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+", raw) else raw.replace(",", ".")
    written = -float(plain) if match["sign"] and concept.definition.low < 0 else float(plain)
    value, end, assumed = _converted(text, match, written, link, concept, grammar)
    low, high = concept.without_unit if assumed else (concept.definition.low, concept.definition.high)
    change = link != match["link"] and _CHANGE.search(link)  # `180 lbs (down 5 lbs)`
    if value is None or match["bound"] or change or not low <= value <= high:
        return None, end
    past = bool(PAST.search(link)) or bool(PAST_AFTER.match(text, end))
    before = _FROM.search(link) or (EARLIER.search(link) and not LATER.search(link))
    earlier = bool(before or _EARLIER_AFTER.match(text, end))
    when = Temporality.HISTORICAL if past else Temporality.CURRENT
    return Number(round(value, 6), assumed, earlier, when, bool(NOW.search(link)), end), end


def _converted(
    text: str, match: re.Match[str], written: float, link: str, concept: NoteConcept, grammar: _Grammar
) -> tuple[float | None, int, bool]:
    """Returns (value in the canonical unit or None, its end, whether the unit was assumed)."""
    definition, end = concept.definition, match.end()
    behind, ahead = grammar.unit.match(text, end), grammar.unit.search(match["link"])
    found = behind or ahead
    if found is not None:
        end = end if behind is None else behind.end()
        return definition.convert(written, grammar.units[_folded(found["unit"])]), end, False
    if definition.name == URINE_RATE:
        volume = _VOLUME.match(text, end)
        period = _PERIOD_BEFORE.search(link)
        if volume is not None:
            hours = 24.0 if volume["day"] else float(volume["hours"] or 1)
            litres = volume["unit"].lower().startswith("l")
            return written * (1000 if litres else 1) / hours if hours else None, volume.end(), False
        alone = re.compile(r"\s?(?:mls?|cc)\b", re.I).match(text, end)
        return (written / float(period[1]), alone.end(), False) if alone and period else (None, end, False)
    if _of_something_else(text, end):
        return None, end, False
    if _FAHRENHEIT in definition.conversions and written > definition.high:
        return definition.convert(written, _FAHRENHEIT), end, True
    fraction = "1" in definition.conversions and written <= 1 and definition.low > 1
    return (definition.convert(written, "1") if fraction else written), end, True


def _of_something_else(text: str, end: int) -> bool:
    """Whether a dose or a unit of other concepts follows: `potassium 40 mEq PO`, `creatinine 3.4 mmHg`."""
    if flagged(text, end):
        return False
    if _FOREIGN.match(text, end):
        return True
    token = _TOKEN.match(text, end)
    return (
        token is not None and token[1] not in {"in", "HR"} and definitions().unit(token[1]) in definitions().known_units
    )


def _list_item(text: str, match: re.Match[str]) -> bool:
    """Whether the number is a list item: `1. Heart failure` on its own line is not a value of the line before."""
    start = match.start("number")
    return bool(re.match(r"[.)]\s", text[match.end() : match.end() + 2])) and "\n" in text[match.start() : start]


@cache
def _grammar(name: str) -> _Grammar:
    concept = note_phrases().concepts[name]
    definition, known = concept.definition, definitions()
    units = {_folded(spelling): unit for spelling, unit in note_phrases().units.items() if unit == definition.unit}
    for unit in (definition.unit, *definition.conversions):
        units |= {_folded(spelling): unit for spelling in known.spellings_of(unit) if spelling not in {"in", "1"}}
    units |= {_folded(_PER.sub(" per ", spelling)): unit for spelling, unit in units.items() if "/" in spelling}
    if "[lb_av]" in definition.conversions:
        units["#"] = "[lb_av]"
    if "[in_i]" in definition.conversions:
        # `in` is a word as well: only a length, and not `in the clinic`.
        units |= dict.fromkeys(("in", "in.", "inch", "inches", '"', "''"), "[in_i]")
    spelled = "|".join(_spelled(unit) for unit in sorted(units, key=len, reverse=True))
    spelled = spelled or "(?!)"
    after = re.compile(rf"\s?\(?(?P<unit>{spelled})(?![a-z0-9/])(?!(?<=in) (?:the|a|an|clinic|\d))", re.I)
    dash = "" if definition.low < 0 else "|[-–—]"
    link = (
        rf"(?:{_TIME}|{_PERIOD}|[-–—=]+>(?=\s?\d)|\(\s*\)|[^\S\n]+|\n|[:=~≈|\t•*\[↑↓]{dash}|\.{{2,}}|\((?:{spelled})\)|\((?=\s?(?:\d|{_PLACED}))"
        r"|,\s?(?=(?:now|currently|today)\b)|(?<=ing),\s?(?=\d)"
        rf"|\b(?:{_WORDS})\b)"
    )
    first = re.compile(rf"(?P<link>{link}{{0,{MOST_LINKS}}}+){_NUMBER}", re.I)
    before = re.compile(rf"(?P<number>\d+(?:[.,]\d+)?)\s?(?P<unit>{spelled})\s+(?:of\s+)?\Z", re.I)
    return _Grammar(first, after, before, units)


def _spelled(folded: str) -> str:
    """Returns a unit's pattern: `mg/dl`, `mg per dL`."""
    return r"\s?per\s?".join(re.escape(part) for part in folded.split("per")) if "per" in folded else re.escape(folded)


def _folded(spelling: str) -> str:
    return "".join(spelling.lower().split())
