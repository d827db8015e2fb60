"""Identifiers with a form of their own: numbers after a label, telephone numbers, addresses, URLs.

Each rule is tried on the whole text; where two meet, the earlier rule of the table wins. `value` is the group that is
replaced, so that the label stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from risk_model.deidentification.categories import Category


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier at `text[start:end]`; `surrogate` takes its place where it is not a numbered placeholder."""

    start: int
    end: int
    category: Category
    surrogate: str | None = None


def _rule(category: Category, pattern: str, flags: int = 0) -> tuple[Category, re.Pattern[str]]:
    return category, re.compile(pattern, flags)


def _labelled(
    category: Category, labels: str, value: str = r"[A-Z0-9][A-Z0-9./*-]{2,}"
) -> tuple[Category, re.Pattern[str]]:
    """A value with a digit (or masked by x and *) that follows one of the labels."""
    between = r"[ \t]*(?:numbers?|num|no\.?|nr\.?|id|code|#)?[ \t]*(?:is|was|of|[:#=.-])*[ \t]*#?[ \t]*"
    return category, re.compile(rf"\b(?:{labels}){between}(?P<value>(?=[^\s]{{0,40}}\d)(?:{value}))(?<![.\-/])", re.I)


_STREET = (
    r"(?i:street|avenue|road|boulevard|drive|lane|court|circle|terrace|place|parkway|highway|square|trail|crescent|close"
    r"|alley|loop|route|turnpike|way|st|ave?|rd|blvd|dr|ln|ct|cir|ter|pl|pkwy|hwy|sq|trl|cres)\b\.?"
)
_STATES = (
    "A[LKZR]|C[AOT]|D[EC]|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[TA]"
    "|W[AVIY]|Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho"
    "|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi"
    "|Missouri|Montana|Nebraska|Nevada|New (?:Hampshire|Jersey|Mexico|York)|(?:North|South) (?:Carolina|Dakota)|Ohio"
    "|Oklahoma|Oregon|Pennsylvania|Rhode Island|Tennessee|Texas|Utah|Vermont|(?:West )?Virginia|Washington|Wisconsin"
    "|Wyoming"
)
_CAPITAL = r"[A-Z\u00c0-\u00de][\w\u00c0-\u024f'\u2019.-]{0,30}"
_UNITS = (
    r"(?!\s*(?:-\s*)?(?i:m[lg]|mcg|\u00b5g|ug|g\b|kg|cc\b|l\b|units?|iu\b|k/|/|x?10[\^e]|copies|cells|cfu|mm|cm|meq|mmol|kcal|cal"
    r"|hours?|hrs?\b|days?|weeks?|months?|years?|%|\u00b0|steps|feet|ft\b|lbs?\b|ng|pg|mosm|ml))"
)
_PHONE = (
    r"(?:\+?\d{1,3}[ .-]?)?(?:\(\d{2,5}\)[ .-]?|\d{2,5}[ .-])\d{3,4}[ .-]?\d{3,4}(?:\s*(?:x|ext\.?|extension)\s*\d+)?"
)

RULES: tuple[tuple[Category, re.Pattern[str]], ...] = (
    _rule(Category.EMAIL, r"(?<![\w.+%-])[\w.+%-]{1,64}(?:@|\s?(?:\[at\]|\(at\))\s?)[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}"),
    _rule(Category.URL, r"\b(?:https?|ftp)://[^\s<>\")]+|\bwww\.[^\s<>\")]+", re.I),
    _rule(
        Category.URL,
        r"(?<![a-z0-9.-])(?:[a-z0-9-]{1,63}\.){1,6}(?:com|org|net|edu|gov|mil|info|health|clinic|care|io|co\.uk|nhs\.uk|de|fr|es|it|ca|eu)\b"
        r"(?:/[^\s<>\")]*)?",
        re.I,
    ),
    _rule(Category.URL, r"(?<![\w@])@[A-Za-z_][\w.]{2,}"),
    _rule(Category.IP, r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.]*\d)"),
    _rule(Category.IP, r"(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}(?::|[0-9a-f]{1,4})(?:[0-9a-f:]*)(?![\w:])", re.I),
    _rule(Category.DEVICE, r"(?<![\w:])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![\w:])", re.I),
    _rule(Category.DEVICE, r"\(01\)\d{14}(?:\(\d{2}\)[A-Za-z0-9./-]+)*"),
    _labelled(
        Category.SSN,
        r"ssn?|soc(?:ial)?\.? sec(?:urity)?(?: (?:number|no\.?|#))?|last (?:four|4)(?: of ssn)?",
        r"[x*\d]{3}[- ]?[x*\d]{2}[- ]?\d{4}|\d{4}",
    ),
    _rule(Category.SSN, r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])|(?<!\w)[xX*]{3}-?[xX*]{2}-?\d{4}(?!\w)"),
    _labelled(Category.FAX, r"fax(?: to| at)?", rf"{_PHONE}|\+?\d[\d ().-]{{5,}}\d"),
    _labelled(
        Category.PHONE,
        r"tel(?:ephone)?|phone|cell(?: ?phone)?|mobile|home phone|work phone|contact|callback|call|pager?|beeper|ph|ext(?:ension)?"
        r"|call(?:ed)?(?: \w+)? at|reached? at|reach (?:him|her|them) at|whatsapp|text",
        rf"{_PHONE}|\+?\d[\d ().-]{{2,}}\d",
    ),
    _labelled(
        Category.PLAN,
        r"(?:health )?(?:plan|policy|member|subscriber|beneficiary|insurance|group|payer)(?: (?:id|number|no\.?))?"
        r"|medicare|medicaid|mbi|hicn?|hic|nhs|blue cross|bcbs|aetna|cigna|humana|united ?healthcare",
        r"(?:[A-Z0-9]+[ -])?[A-Z0-9-]*\d[A-Z0-9-]{3,}|\d{3} \d{3} \d{4}",
    ),
    _labelled(
        Category.LICENCE,
        r"licen[cs]e|lic|npi|dea|certificate|cert|passport|driver'?s? ?licen[cs]e|drivers? lic|dl|registration|gmc|upin",
    ),
    _labelled(Category.VEHICLE, r"vin|licen[cs]e plate|number plate|plate|tag|registration plate", r"[A-Z0-9][A-Z0-9 -]{2,15}[A-Z0-9]"),
    _rule(Category.VEHICLE, r"\b(?=[A-HJ-NPR-Z]{0,16}\d)(?=\d{0,16}[A-HJ-NPR-Z])[A-HJ-NPR-Z0-9]{17}\b"),
    _labelled(
        Category.DEVICE,
        r"serial|s/n|sn|lot|udi|model|device(?: (?:id|identifier))?|pacemaker|icd|pump|implant|generator|ref",
        r"[A-Z0-9][A-Z0-9./-]*\d[A-Z0-9./-]{2,}",
    ),
    _labelled(
        Category.ACCOUNT,
        r"acc(?:oun)?t|har|csn|fin|visit|encounter|invoice|claim|billing|guarantor|iban|credit card|card|bank account",
        r"[A-Z0-9][A-Z0-9-]*\d[A-Z0-9-]{2,}(?: \d{4}){0,3}",
    ),
    _labelled(
        Category.RECORD,
        r"m\.?r\.?n\.?|mr|med(?:ical)? rec(?:ord)?|medical record|record|chart|patient(?: id)?|pt(?: id)?|unit|hospital(?: id)?"
        r"|pid|epic|empi|case|study|accession|acc|specimen|order|req(?:uisition)?|path(?:ology)?|badge|employee|dictation"
        r"|job|document|doc|trial|subject|barcode|unit number|nhs|id",
        r"[A-Z0-9][A-Z0-9-]*\d[A-Z0-9-]{2,}",
    ),
    _rule(Category.PHONE, r"(?<![\w.-])\+\d[\d ().-]{7,}\d(?![\w-])"),
    _rule(
        Category.PHONE,
        r"(?<![\w.-])(?:\+?1[ .-]?)?(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]?\d{4}(?:\s*(?:x|ext\.?|extension)\s*\d+)?(?![\w-])" + _UNITS,
    ),
    _rule(Category.PHONE, r"(?<!\w)x\d{4,5}\b"),
    _rule(Category.PLACE, r"\b(?:RR|Rural Route)\s*\d+,?\s*Box\s*\d+\b"),
    _rule(Category.PHONE, r"(?<![\w.,-])\d{3}-\d{4}(?:\s*(?:x|ext\.?)\s*\d+)?(?![\w-])" + _UNITS),
    _rule(Category.PHONE, r"(?<![\w.])\(?0\d{2,4}\)?[ -]\d{3,4}[ -]?\d{3,4}(?![\w-])" + _UNITS),
    _rule(Category.PLACE, rf"(?<![\w/.-])\d{{1,6}}[A-Za-z]?(?:-\d+)?\s+(?:[NSEW]\.?\s+|North\s+|South\s+|East\s+|West\s+)?(?:(?:{_CAPITAL}|\d+(?:st|nd|rd|th))\s+){{1,4}}{_STREET}"
          r"(?:,?\s*(?i:apt|apartment|suite|ste|unit|floor|fl|#)\.?\s*#?\s*\w+)?"),
    _rule(Category.PLACE, r"(?<![\w/.-])\d{1,6}\s+(?:[a-z]+\s+){1,3}(?:street|avenue|ave|road|rd|lane|drive|boulevard|blvd)\b\.?(?:,?\s*(?:apt|suite|unit)\.?\s*#?\s*\w+)?"),
    _rule(Category.PLACE, r"\bP\.?\s?O\.?\s*Box\s*\d+|\b(?:apt|apartment|suite|ste)\.?\s*#?\s*\d+[A-Za-z]?\b", re.I),
    _rule(Category.PLACE, rf"(?P<value>(?:(?:{_CAPITAL})[ ]){{0,2}}{_CAPITAL}),?\s+(?:{_STATES})\.?,?\s+\d{{5}}(?:-\d{{4}})?\b" + _UNITS),
    _rule(Category.PLACE, rf"\b(?:{_STATES})\.?,?\s+(?P<value>\d{{5}}(?:-\d{{4}})?)\b" + _UNITS),
    _rule(Category.PLACE, r"\b(?:zip(?: ?code)?|postal code|postcode)[ :#]*(?P<value>[A-Z0-9]{2,5}[ -]?[A-Z0-9]{3,4}|\d{5}(?:-\d{4})?)\b", re.I),
    _rule(Category.PLACE, r"\b[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}\b"),
    _rule(Category.PLACE, r"(?<![\d.])-?\d{1,3}\.\d{4,},\s*-?\d{1,3}\.\d{4,}"),
    _rule(
        Category.PLACE,
        rf"\b(?P<value>(?:[A-Z\u00c0-\u00de][a-z\u00df-\u024f][A-Za-z\u00c0-\u024f'\u2019.-]{{0,30}})(?:[ ](?:(?:[A-Z\u00c0-\u00de][a-z\u00df-\u024f][A-Za-z\u00c0-\u024f'\u2019.-]{{0,30}})|of|the|and|&)){{0,4}}?),\s*(?!(?:MD|PA|MA|OR|IN|DE|OK|ME|HI|LA|AL|CO|ID|VA)\b(?!\s+\d{{5}}))(?:{_STATES})\b(?!\w)",
    ),
    _rule(Category.NUMBER, r"(?<![\w.,/^>-])#?\d{7,}(?![\w.]*\d)(?!\w)" + _UNITS),
    _rule(Category.NUMBER, r"(?<![\w.,/-])\d{3,4}[ -]\d{3,4}[ -]\d{3,4}(?:[ -]\d{2,4})?(?![\w-])" + _UNITS),
    _rule(Category.NUMBER, r"(?<![\w./-])[A-Z]{1,5}\d{0,3}-?\d{5,}[A-Z]?\b"),
    _rule(Category.NUMBER, r"(?<![\w./-])[A-Z]{1,3}\d{2}-\d{3,}\b"),
    _rule(Category.NUMBER, r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I),
)  # fmt: skip


def identifiers(text: str) -> Iterator[Identifier]:
    """Yields what the rules find, in the order of the rules; they may overlap."""
    for category, pattern in RULES:
        group = "value" if "value" in pattern.groupindex else 0
        for match in pattern.finditer(text):
            start, end = match.span(group)
            if end > start:
                yield Identifier(start, end, category)
