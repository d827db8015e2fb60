"""The frozen values that leave this room. FHIR's names for resources, MEDS's for time series.

Every time is an aware `datetime` in UTC. A date without a time of day becomes the *end* of that day when it is
compared with `prediction_time`, so that "that day" is never taken for midnight before it; see `Instant`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Availability(StrEnum):
    """What we know about a kind of resource. The three are never the same thing.

    FETCHED      asked for, and something usable came
    ABSENT       asked for, and there is none (an empty searchset)
    NOT_FETCHED  nobody asked, the answer was null, an error, or incomplete
    """

    FETCHED = "fetched"
    ABSENT = "absent"
    NOT_FETCHED = "not-fetched"


class StayClass(StrEnum):
    """Encounter class, reduced to what labels and scores ask for."""

    INPATIENT = "inpatient"
    EMERGENCY = "emergency"
    OBSERVATION = "observation"
    OUTPATIENT = "outpatient"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time and how precisely it is known.

    `earliest` and `latest` are equal for an instant; for `2024-05-01` they span that day. `zone_assumed` is true
    where the text carried a time without a zone (invalid FHIR): such a value is flagged and read as UTC.
    """

    earliest: datetime
    latest: datetime
    zone_assumed: bool = False


@dataclass(frozen=True, slots=True)
class Coding:
    system: str | None
    code: str
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource, or part of one, that was read and not used. `reason` is a stable code; `detail` has no PHI."""

    source: str
    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Stay:
    """One hospital contact as known at `prediction_time`: `end` is None while it runs, even if the data know better."""

    source: str
    stay_class: StayClass
    start: datetime
    end: datetime | None
    codings: tuple[Coding, ...] = ()
    reasons: tuple[Coding, ...] = ()
    reason_texts: tuple[str, ...] = ()
    acute: bool | None = None
    """True for an emergency or urgent admission, False for an elective one, None when the record does not say."""
    intensive_care: bool | None = None
    """True where the stay, or a part of it begun by now, is in intensive care; None when the record does not say."""
    discharge_disposition: str | None = None
    """Code of `dischargeDisposition`; always None while the stay runs."""
    admission_source: str | None = None
    """Code of `admitSource`."""
    part_of: str | None = None
    length_unknown: str | None = None
    """Why the stay has no length: it is over and does not say when (`no-end`), or ends before it begins
    (`period-reversed`). Then `end` is None and the stay is not running."""

    @property
    def running(self) -> bool:
        """Whether the stay is not over, as far as is known by then."""
        return self.end is None and self.length_unknown is None

    def days_until(self, moment: datetime) -> float | None:
        """Length of stay in days at `moment`, or at its end if that comes first; None where it is unknown."""
        if self.length_unknown is not None:
            return None
        until = moment if self.end is None else min(self.end, moment)
        return (until - self.start).total_seconds() / 86_400


@dataclass(frozen=True, slots=True)
class Condition:
    source: str
    codings: tuple[Coding, ...]
    text: str
    onset: datetime | None
    recorded: datetime | None
    abated: datetime | None
    active: bool
    """Active at prediction_time: not refuted, not entered in error, not abated or resolved by then."""
    stay: str | None = None


@dataclass(frozen=True, slots=True)
class Medication:
    source: str
    codings: tuple[Coding, ...]
    text: str
    start: datetime | None
    end: datetime | None
    active: bool
    stay: str | None = None


@dataclass(frozen=True, slots=True)
class Administration:
    """A dose that was given; `dose` in `unit` as charted."""

    source: str
    codings: tuple[Coding, ...]
    text: str
    time: datetime
    dose: float | None
    unit: str | None
    stay: str | None = None


@dataclass(frozen=True, slots=True)
class Procedure:
    source: str
    codings: tuple[Coding, ...]
    text: str
    performed: datetime | None
    stay: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One usable value of one concept, in that concept's canonical UCUM unit."""

    concept: str
    value: float
    unit: str
    time: datetime
    source: str
    preliminary: bool = False


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """`value` is a number in `unit`, or a word such as `female` for the few features that are words (unit None).

    `basis` is said only where a value was not read from a code: `name` for a class of drug told by the drug's name.
    """

    value: float | str
    unit: str | None
    time: datetime | None
    sources: tuple[str, ...]
    basis: str | None = None


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """Named features `<concept>.<aggregate>`; what is not in `values` is in `unknown` with a reason code.

    >>> vector = FeatureVector("p1", None, {}, {"sodium.last": "none-found"}, ())
    >>> vector.number("sodium.last") is None
    True
    """

    subject_id: str
    prediction_time: datetime | None
    values: Mapping[str, FeatureValue]
    unknown: Mapping[str, str]
    refused: tuple[Refusal, ...]

    def number(self, name: str) -> float | None:
        """The value as a number, or None when it is unknown. Unknown is never normal: no default stands in."""
        found = self.values.get(name)
        return None if found is None or isinstance(found.value, str) else float(found.value)

    def word(self, name: str) -> str | None:
        found = self.values.get(name)
        return found.value if found is not None and isinstance(found.value, str) else None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def to_json(self) -> dict[str, Any]:
        """The shape of `riskcards map --to features --json`."""
        return {
            "subject_id": self.subject_id,
            "prediction_time": None if self.prediction_time is None else self.prediction_time.isoformat(),
            "features": {
                name: {
                    "value": feature.value,
                    "unit": feature.unit,
                    "time": None if feature.time is None else feature.time.isoformat(),
                    "sources": list(feature.sources),
                }
                | ({"basis": feature.basis} if feature.basis else {})
                for name, feature in self.values.items()
            },
            "unknown": dict(self.unknown),
            "refused": [
                {"source": r.source, "reason": r.reason} | ({"detail": r.detail} if r.detail else {})
                for r in self.refused
            ],
        }


@dataclass(frozen=True, slots=True)
class Section:
    """A named part of a note; `start` and `end` are character offsets into `Note.text`.

    `code` is the LOINC code a CDA document or a Composition gave the section.
    """

    name: str
    title: str
    start: int
    end: int
    code: str | None = None


@dataclass(frozen=True, slots=True)
class CopiedBlock:
    """A passage of a note that stands word for word in an earlier one: `Note.text[start:end]` was first in `source`."""

    start: int
    end: int
    source: str


@dataclass(frozen=True, slots=True)
class Note:
    """A clinical note as plain text. `status` is `read`, or why the text is empty (`unreadable`, `not-fetched`).

    `reason` is a stable code: why nothing could be read, or what is missing from a text that was (`text-cut`). `kind`
    is what sort of note it is, whatever its title (`progress_note`, `discharge_summary`, ...; see `note_types`).
    `other_sources` name the same note in other formats or resources; `copied` marks what came from earlier notes.
    """

    id: str
    type: str
    time: datetime | None
    text: str
    sections: tuple[Section, ...]
    source: str
    status: str
    author_role: str | None = None
    original_format: str | None = None
    reason: str | None = None
    kind: str = "other"
    other_sources: tuple[str, ...] = ()
    copied: tuple[CopiedBlock, ...] = ()
    preliminary: bool = False

    def copied_from(self, position: int) -> str | None:
        """The earlier note that the character at `position` was copied from, or None where it is this note's own."""
        return next((block.source for block in self.copied if block.start <= position < block.end), None)

    def to_json(self) -> dict[str, Any]:
        """The shape of one entry of `riskcards map --to notes --json`."""
        return {
            "id": self.id,
            "type": self.type,
            "time": None if self.time is None else self.time.isoformat(),
            "text": self.text,
            "sections": [
                {"name": s.name, "title": s.title, "start": s.start, "end": s.end}
                | ({"code": s.code} if s.code else {})
                for s in self.sections
            ],
            "source": self.source,
            "status": self.status,
            "author_role": self.author_role,
            "original_format": self.original_format,
            "reason": self.reason,
            "kind": self.kind,
            "other_sources": list(self.other_sources),
            "copied": [{"start": c.start, "end": c.end, "source": c.source} for c in self.copied],
            "preliminary": self.preliminary,
        }
