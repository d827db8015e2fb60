"""The frozen values this package returns. Resources have FHIR's names, time series those of MEDS.

Every time is an aware `datetime` in UTC. A date without a time of day is compared with `prediction_time` by the *end*
of that day, so that it is never taken for the midnight before; see `Instant`. `source` is the key of the resource a
value was read from, such as `Observation/o1`; `stay` is the key of its Encounter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class Availability(StrEnum):
    """Whether resources of one type are in the data.

    FETCHED      requested, and at least one was returned
    ABSENT       requested, and there is none (an empty searchset)
    NOT_FETCHED  not requested, or the answer was null, an error, or incomplete
    """

    FETCHED = "fetched"
    ABSENT = "absent"
    NOT_FETCHED = "not-fetched"


class StayClass(StrEnum):
    """Encounter class, reduced to the classes that labels and scores distinguish."""

    INPATIENT = "inpatient"
    EMERGENCY = "emergency"
    OBSERVATION = "observation"
    OUTPATIENT = "outpatient"
    OTHER = "other"
    """None of these, or not understood (`Stay.class_unknown`)."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time with its precision.

    `earliest` and `latest` are equal for an exact time; for `2024-05-01` they span that day. `zone_assumed` is true
    for a time without a zone (invalid FHIR): such a value is flagged and read as UTC.
    """

    earliest: datetime
    latest: datetime
    zone_assumed: bool = False


@dataclass(frozen=True, slots=True)
class Coding:
    """A FHIR Coding; `system` is normalised by `terminology.codes.system_of`."""

    system: str | None
    code: str
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource, or part of one, that was not used. `reason` is a code of `core.reasons`; `detail` contains no PHI."""

    source: str
    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Stay:
    """One hospital contact as known at `prediction_time`: `end` is None until then, even if the data hold it."""

    source: str
    stay_class: StayClass
    start: datetime
    end: datetime | None
    codings: tuple[Coding, ...] = ()
    reasons: tuple[Coding, ...] = ()
    reason_texts: tuple[str, ...] = ()
    acute: bool | None = None
    """True for an emergency or urgent admission, False for an elective one, None if not recorded."""
    intensive_care: bool | None = None
    """True if the stay, or a part of it that has started, is in intensive care; None if not recorded."""
    intensive_care_from: datetime | None = None
    """When intensive care began, if it is an Encounter of its own."""
    discharge_disposition: str | None = None
    """A code of `dischargeDisposition`, for display and export; always None before the stay has ended."""
    admission_source: str | None = None
    """A code of `admitSource`, for display and export."""
    destination: str | None = None
    """Where the patient went, by `encounter_codes.yaml`: `died`, `home`, `nursing`, ...; None before the end."""
    origin: str | None = None
    """Where the patient came from: `emergency`, `hospital_transfer`, ..."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Reason codes of unknown facts: `acute_admission`, `admission_source`, `discharge_disposition`,
    `intensive_care`."""
    class_unknown: str | None = None
    """Why it is unknown whether this is an inpatient stay: `no-class`, `class-not-understood` or `codes-disagree`."""
    remote: bool = False
    """A home or virtual visit: what it records during an inpatient stay is measured on the inpatient."""
    start_span: timedelta = timedelta()
    end_span: timedelta = timedelta()
    """How imprecise the times are: the stay began at `start` or up to `start_span` later, and ended at `end` or up
    to `end_span` earlier."""
    part_of: str | None = None
    length_unknown: str | None = None
    """Why the length of stay is unknown: it has ended without an end time (`no-end`), or ends before it starts
    (`period-reversed`). Then `end` is None and the stay is not running."""

    @property
    def running(self) -> bool:
        """Whether the stay has not ended, as known at `prediction_time`."""
        return self.end is None and self.length_unknown is None

    def days_until(self, moment: datetime) -> float | None:
        """Returns the length of stay in days at `moment`, or at its end if earlier; None if unknown or imprecise."""
        bounds = self.days_between(moment)
        return None if bounds is None or bounds[0] != bounds[1] else bounds[0]

    def days_between(self, moment: datetime) -> tuple[float, float] | None:
        """Returns the shortest and longest length of stay in days at `moment` that its period allows; None if unknown.

        >>> from datetime import UTC, datetime, timedelta
        >>> first, last = datetime(2025, 3, 10, tzinfo=UTC), datetime(2025, 3, 13, tzinfo=UTC)
        >>> day = timedelta(days=1)
        >>> Stay("Encounter/e", StayClass.INPATIENT, first, last, start_span=day, end_span=day).days_between(last)
        (1.0, 3.0)
        """
        if self.length_unknown is not None:
            return None
        until = moment if self.end is None else min(self.end, moment)
        span = self.end_span if self.end is not None and self.end <= moment else timedelta()
        longest = until - self.start
        shortest = max(longest - self.start_span - span, timedelta())
        return shortest.total_seconds() / 86_400, longest.total_seconds() / 86_400

    def hours_between(self, moment: datetime) -> tuple[float, float]:
        """Returns the fewest and most hours since admission at `moment`."""
        most = moment - self.start
        return max(most - self.start_span, timedelta()).total_seconds() / 3600, most.total_seconds() / 3600


@dataclass(frozen=True, slots=True)
class UndatedEncounter:
    """An Encounter without a start: it may be an earlier stay, the present one, or a later one."""

    source: str
    stay_class: StayClass
    class_unknown: str | None
    running: bool
    """Neither its status nor its period says that it has ended."""

    def may_be(self, kind: StayClass) -> bool:
        """Whether it has, or may have, this class."""
        return self.stay_class is kind or self.class_unknown is not None


@dataclass(frozen=True, slots=True)
class Condition:
    """A problem or diagnosis of the patient."""

    source: str
    codings: tuple[Coding, ...]
    text: str
    onset: datetime | None
    recorded: datetime | None
    abated: datetime | None
    active: bool | None
    """Active at `prediction_time`: not abated, resolved or inactive by then; None if only today's status is known."""
    stay: str | None = None


@dataclass(frozen=True, slots=True)
class Medication:
    """A medication order or statement; `active` at `prediction_time`, None if only today's status is known."""

    source: str
    codings: tuple[Coding, ...]
    text: str
    start: datetime | None
    end: datetime | None
    active: bool | None
    stay: str | None = None
    status: str = "active"
    """The recorded status, which is that of the day the data were read."""
    ended_by: datetime | None = None
    """When a course without an end that is read as over had ended at the latest."""


@dataclass(frozen=True, slots=True)
class Administration:
    """A dose that was given; `dose` is in `unit`, both as charted.

    `end` is the end of an infusion that has ended by `prediction_time`; `running` an infusion that has not.
    """

    source: str
    codings: tuple[Coding, ...]
    text: str
    time: datetime
    dose: float | None
    unit: str | None
    stay: str | None = None
    end: datetime | None = None
    running: bool = False
    order: str | None = None
    """Key of the MedicationRequest it carries out."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """A procedure that was performed."""

    source: str
    codings: tuple[Coding, ...]
    text: str
    performed: datetime | None
    stay: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value of one concept in its canonical UCUM `unit`."""

    concept: str
    value: float
    unit: str
    time: datetime
    source: str
    preliminary: bool = False


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """A number in `unit`, or text such as `female` for the few categorical features (unit None).

    `basis` is set only if the value was not read from a code: `name` for a drug class derived from the drug's name.
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
        """Returns the value in its unit, or None if it is unknown: no default is substituted."""
        found = self.values.get(name)
        return None if found is None or isinstance(found.value, str) else float(found.value)

    def bounds(self, name: str) -> tuple[float, float] | None:
        """Returns the lowest and highest value that a feature may have; None if nothing is known.

        >>> few, many = (FeatureValue(n, "1", None, ()) for n in (1.0, 3.0))
        >>> found = {"stay.min_365d": few, "stay.max_365d": many}
        >>> FeatureVector("p1", None, found, {"stay.count_365d": "class-not-understood"}, ()).bounds("stay.count_365d")
        (1.0, 3.0)
        """
        value = self.number(name)
        if value is not None:
            return value, value
        concept, _, aggregate = name.partition(".")
        suffix = aggregate.removeprefix("last").removeprefix("count")
        low, high = self.number(f"{concept}.min{suffix}"), self.number(f"{concept}.max{suffix}")
        return None if low is None or high is None else (low, high)

    def word(self, name: str) -> str | None:
        """Returns the text of a categorical feature, or None if it is unknown."""
        found = self.values.get(name)
        return found.value if found is not None and isinstance(found.value, str) else None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def to_json(self) -> dict[str, Any]:
        """Returns the object that `riskcards map --to features --json` prints."""
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
    """A section of a note; `start` and `end` are character offsets into `Note.text`.

    `code` is the LOINC section code of a CDA document or Composition.
    """

    name: str
    title: str
    start: int
    end: int
    code: str | None = None


@dataclass(frozen=True, slots=True)
class CopiedBlock:
    """A verbatim copy from an earlier note: `Note.text[start:end]` first appeared in the note `source`."""

    start: int
    end: int
    source: str


@dataclass(frozen=True, slots=True)
class Note:
    """A clinical note as plain text. `status` is `read`, `unreadable` or `not-fetched`; the latter two have no text.

    `reason` is a code of `core.reasons.NOTE_REASONS`: why there is no text, or what is missing from it (`text-cut`).
    `kind` is the type of note whatever its title (`progress_note`, `discharge_summary`, ...; see `note_types`).
    `other_sources` name duplicates in other formats or resources; `copied` marks passages from earlier notes.
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
    language: str | None = None
    """The language its resource declares, a BCP 47 tag."""

    def copied_from(self, position: int) -> str | None:
        """Returns the source of the earlier note the character at `position` was copied from, or None."""
        return next((block.source for block in self.copied if block.start <= position < block.end), None)

    def to_json(self) -> dict[str, Any]:
        """Returns one note of `riskcards map --to notes --json`."""
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
            "language": self.language,
        }
