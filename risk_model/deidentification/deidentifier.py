"""De-identifies records: dates shifted, ids pseudonymised, notes without identifiers.

    Deidentifier(key).record(record)    -> a PatientRecord of the same values, without who and when

Everything is derived from the key by HMAC-SHA256: with the same key a patient has the same pseudonym and the same
offset in every run, and without it neither can be computed. Nothing is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from fhir_mapping import Coding, CopiedBlock, Instant, Note, PatientRecord, Section
from fhir_mapping.core import parse_instant
from fhir_mapping.record import rewrite
from risk_model.deidentification.dates import OLDEST
from risk_model.deidentification.text import DeidentifiedText, deidentified

MINIMUM_KEY = 16
_NEAREST, _FARTHEST = 30, 1825
"""Days by which dates are shifted into the past: at least a month, at most five years."""
_KEY = re.compile(r"(?P<type>[A-Z][A-Za-z]+)/(?P<id>.+)", re.S)
_STANDARD = re.compile(
    r"https?://(?:[\w-]+\.)*(?:loinc\.org|snomed\.info|unitsofmeasure\.org|hl7\.org|nlm\.nih\.gov|ama-assn\.org|whocc\.no"
    r"|ihtsdo\.org|who\.int|cms\.gov|npu-terminology\.org|ncbi\.nlm\.nih\.gov)(?:/|\Z)|urn:(?:oid|iso):"
)
_CODE = re.compile(r"[\w.:/%+^{}\[\]#()<>=~*' -]{1,64}")
_DATE = re.compile(r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})(?P<time>T.*)?)?)?")
_STRINGS = frozenset({"code", "unit", "status", "comparator", "resourceType"})
_TEXTS = frozenset({"display", "text", "valueString"})
_TIMES = frozenset({"effectiveDateTime", "effectiveInstant", "issued", "start", "end", "valueDateTime"})
_HOLDERS = frozenset(
    {"category", "code", "coding", "subject", "encounter", "effectivePeriod", "valueQuantity", "valueCodeableConcept",
     "valueRange", "valueRatio", "valuePeriod", "dataAbsentReason", "interpretation", "referenceRange", "component",
     "hasMember", "derivedFrom", "method", "bodySite", "low", "high", "numerator", "denominator", "type"}
)  # fmt: skip
_NUMBERS = frozenset({"value", "valueBoolean", "valueInteger"})


@dataclass(frozen=True, slots=True)
class Deidentifier:
    """Deidentifier(key, keep_weekdays=True): as without, and dates are shifted by whole weeks.

    `key` has at least 16 bytes: a file of the site, or random for one run. Raises ValueError for a shorter one.
    """

    key: bytes
    keep_weekdays: bool = False

    def __post_init__(self) -> None:
        if len(self.key) < MINIMUM_KEY:
            raise ValueError(f"a key of {len(self.key)} bytes; give at least {MINIMUM_KEY}")

    @property
    def fingerprint(self) -> str:
        """Differs wherever the output would; says nothing about the key."""
        return self._digest("fingerprint", str(self.keep_weekdays)).hex()[:16]

    def offset(self, subject: str) -> timedelta:
        """Returns the days, negative, by which all dates of a patient are shifted."""
        step = 7 if self.keep_weekdays else 1
        nearest, farthest = -(-_NEAREST // step), _FARTHEST // step
        number = int.from_bytes(self._digest("offset", subject)[:8])
        return timedelta(days=-step * (nearest + number % (farthest - nearest + 1)))

    def pseudonym(self, identifier: str) -> str:
        """Returns 16 hex digits that stand for an id; of a key such as `Observation/o1` the type stays."""
        match = _KEY.fullmatch(identifier)
        prefix, plain = (f"{match['type']}/", match["id"]) if match else ("", identifier)
        return prefix + self._digest("id", plain).hex()[:16]

    def text(self, text: str, subject: str, year: int, known: Iterable[str] = ()) -> DeidentifiedText:
        """Returns a text of a patient without identifiers; `year` is that of dates without one."""
        return deidentified(text, self.offset(subject), year, known)

    def note(self, note: Note, subject: str, year: int, known: Iterable[str] = ()) -> Note:
        """Returns a note with its text, times and ids replaced, and its sections where they now are."""
        known = tuple(known)
        year = note.time.year if note.time else year
        new = self.text(note.text, subject, year, known)
        words = partial(self._words, subject=subject, year=year, known=known)
        return replace(
            note,
            id=self.pseudonym(note.id),
            type=words(note.type),
            time=None if note.time is None else note.time + self.offset(subject),
            text=new.text,
            sections=tuple(self._section(section, new, words) for section in note.sections),
            source=self.pseudonym(note.source),
            author_role=None if note.author_role is None else words(note.author_role),
            other_sources=tuple(map(self.pseudonym, note.other_sources)),
            copied=tuple(
                CopiedBlock(new.moved(block.start), new.moved(block.end), self.pseudonym(block.source))
                for block in note.copied
            ),
        )

    def record(self, record: PatientRecord) -> PatientRecord:
        """Returns the record de-identified; features and intervals stay the same, but for ages over 89."""
        return rewrite(
            record, _RecordRewriter(self, record.subject_id, record.prediction_time.year, record.identifiers)
        )

    def _section(self, section: Section, new: DeidentifiedText, words: Any) -> Section:
        return replace(
            section,
            name=words(section.name),
            title=words(section.title),
            start=new.moved(section.start),
            end=new.moved(section.end),
        )

    def _words(self, text: str, *, subject: str, year: int, known: tuple[str, ...]) -> str:
        return self.text(text, subject, year, known).text

    def _digest(self, purpose: str, value: str) -> bytes:
        return hmac.new(self.key, f"{purpose}\0{value}".encode(), hashlib.sha256).digest()


@dataclass(slots=True)
class _RecordRewriter:
    """What takes the place of the values of one patient's record."""

    by: Deidentifier
    subject: str
    year: int
    known: frozenset[str]

    def time(self, value: datetime) -> datetime:
        return value + self.by.offset(self.subject)

    def birth(self, value: Instant, prediction_time: datetime) -> Instant:
        """Shifted; of a patient who may be over 89 at the prediction time, the day 90 years before it."""
        years, at = _years(value.earliest, prediction_time), self.time(prediction_time)
        if years <= OLDEST:
            # A birthday near the prediction time may pass it by other leap days.
            wrong = timedelta(days=_years(self.time(value.earliest), at) - years)
            return Instant(self.time(value.earliest) + wrong, self.time(value.latest) + wrong, value.zone_assumed)
        day = 28 if (at.month, at.day) == (2, 29) else at.day
        capped = parse_instant(f"{at.year - OLDEST - 1:04d}-{at.month:02d}-{day:02d}")
        assert capped is not None
        return capped

    def key(self, value: str) -> str:
        return self.by.pseudonym(value)

    def text(self, value: str) -> str:
        return self.by.text(value, self.subject, self.year, self.known).text

    def coding(self, value: Coding) -> Coding:
        standard = value.system is not None and _STANDARD.match(value.system) is not None
        display = value.display if standard or value.display is None else self.text(value.display)
        return Coding(self._system(value.system), _code(value.code), display)

    def note(self, value: Note) -> Note:
        return self.by.note(value, self.subject, self.year, self.known)

    def observation(self, value: dict[str, Any]) -> dict[str, Any]:
        """Returns the elements that the MEDS export reads; others, such as performer and note, are dropped."""
        return self._elements(value)

    def _system(self, system: str | None) -> str | None:
        if system is None or _STANDARD.match(system):
            return system
        return f"urn:local:{self.by.pseudonym(system)}"

    def _elements(self, raw: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in raw.items():
            if isinstance(value, str):
                new = self._string(name, value, raw)
            elif name in _NUMBERS:
                new = value
            elif name in _HOLDERS:
                new = self._held(value)
            else:
                continue
            if new is not None:
                found[name] = new
        return found

    def _held(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._held(item) for item in value]
        return self._elements(value) if isinstance(value, dict) else None

    def _string(self, name: str, value: str, around: dict[str, Any]) -> str | None:
        if name in _STRINGS:
            return _code(value)
        if name == "system":
            return self._system(value)
        if name == "display" and _STANDARD.match(str(around.get("system"))):
            return value
        if name in _TEXTS:
            return self.text(value)
        if name in _TIMES:
            return shifted(value, self.by.offset(self.subject))
        if name in {"reference", "id"}:
            return self.by.pseudonym(value)
        return None


def shifted(value: str, offset: timedelta) -> str | None:
    """Returns a FHIR date or dateTime shifted by whole days, as precise as it was; None for what is neither.

    A month counts as its 15th day and a year as its July 2nd.

    >>> [shifted(v, timedelta(days=-60)) for v in ("2024-03-01T10:00:00+01:00", "2024-03", "2024", "soon")]
    ['2024-01-01T10:00:00+01:00', '2024-01', '2024', None]
    """
    match = _DATE.fullmatch(value)
    try:
        if match is None:
            return None
        whole = date(int(match["year"]), int(match["month"] or 7), int(match["day"] or (15 if match["month"] else 2)))
        new = (whole + offset).isoformat()
    except (ValueError, OverflowError):
        return None
    return new + (match["time"] or "") if match["day"] else new[: 7 if match["month"] else 4]


def _code(value: str) -> str:
    return value if _CODE.fullmatch(value) else ""


def _years(birth: datetime, at: datetime) -> int:
    return at.year - birth.year - ((at.month, at.day) < (birth.month, birth.day))
