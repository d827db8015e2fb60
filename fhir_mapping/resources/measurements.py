"""Reads Observations into `Measurement`s in the canonical unit of a known concept, or refusals with a reason.

FHIR R4 Observation (https://hl7.org/fhir/R4/observation.html). Concepts are found by LOINC code, in any
position among the codings; local codes are never guessed from their text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from fhir_mapping.core.reasons import status_reason
from fhir_mapping.core.times import moment, parse_instant, reachable
from fhir_mapping.core.values import Instant, Measurement, Refusal
from fhir_mapping.parsing.elements import Observation, ObservationCodes, ObservationPart, Resource, coded
from fhir_mapping.parsing.references import Directory
from fhir_mapping.resources.quantities import usable_value
from fhir_mapping.terminology.codes import LOINC, SNOMED, codings, text_of
from fhir_mapping.terminology.concepts import ConceptDefinition, Definitions, definitions

# Which of two values with the same time is used: a correction before the original, a final before a preliminary one.
_RANK = {"preliminary": 0, "final": 1, "amended": 2, "corrected": 2}
_FITTING = {
    "blood": frozenset({"blood", "arterial", "venous", "capillary"}),
    "arterial": frozenset({"blood", "arterial"}),
    "urine": frozenset({"urine"}),
}
_CONSCIOUSNESS = {
    (LOINC, "LA9340-6"): "alert",
    (LOINC, "LA17108-4"): "voice",
    (LOINC, "LA17107-6"): "pain",
    (LOINC, "LA9343-0"): "unresponsive",
    (SNOMED, "248234008"): "alert",
    (SNOMED, "300202002"): "voice",
    (SNOMED, "450847001"): "pain",
    (SNOMED, "422768004"): "unresponsive",
    (SNOMED, "130987000"): "confusion",
    (SNOMED, "40917007"): "confusion",
}
Consciousness = tuple[str, datetime, str]
Meanings = tuple[ObservationCodes, ...]
Read = tuple[str, Observation, Meanings]
"""An Observation of a known concept: its key, itself, and the meaning of its codes."""


class _Ranked(NamedTuple):
    """A value and, in this order, what decides between values of one concept at one time."""

    concept: str
    time: datetime
    rank: int
    by_reference: bool
    issued: float
    source: str
    value: float
    unit: str

    def before(self, other: _Ranked) -> str:
        """Returns the reason code why `other`, with the same time, is used instead of this one."""
        if self.rank < other.rank:
            return "later-status-won"
        return "other-method-used" if self.by_reference < other.by_reference else "same-time-other-value"


def read_observations(
    observations: Iterable[Read],
    directory: Directory,
    refused: list[Refusal],
    *,
    preliminary: bool = True,
) -> tuple[tuple[Measurement, ...], Consciousness | None]:
    """Returns every measurement, ordered by concept and time, and the latest coded level of consciousness.

    Of two values of one concept at one time the later status counts (corrected, final, preliminary), then the
    reference method (an arterial line before a cuff), then the later issued, then the greater source; the other is
    listed in `refused`. `preliminary=False` uses final values only.
    """
    found: list[_Ranked] = []
    latest: Consciousness | None = None
    for source, observation, meanings in observations:
        parts = _measuring(observation, meanings, source, refused)
        if parts:
            _measure(observation, parts, source, directory, found, refused, preliminary=preliminary)
        if meanings[0].consciousness:
            level = _consciousness(observation)
            if level is not None and (latest is None or (level[1], source) > (latest[1], latest[2])):
                latest = (*level, source)
    return tuple(_without_inverted_pressures(_one_per_time(found, refused), refused)), latest


def meanings_of(observation: Observation) -> Meanings:
    """Returns the meanings of the codes of an Observation and of its components, in the order of `parts`."""
    if not observation.component:
        return (coded(observation.code),)
    return tuple([coded(part.code) for part in observation.parts])


def wanted(meanings: Meanings) -> bool:
    """Whether one of the codes is that of a known concept in any code system; a quick check before reading."""
    return meanings[0].wanted or (len(meanings) > 1 and any(meaning.wanted for meaning in meanings))


def unmapped(untranslated: Iterable[Meanings]) -> Iterator[Refusal]:
    """Returns one refusal for each local code system that no site map translates, with its number of Observations."""
    local = (meanings for meanings in untranslated if not any(meaning.has_loinc for meaning in meanings))
    systems = Counter(meanings[0].first_system for meanings in local)
    return (Refusal("Observation", "code-not-mapped", f"{n} of {s}") for s, n in sorted(systems.items()))


def concepts_of(resource: Observation | Resource) -> tuple[str, ...]:
    """Returns the names of the concepts of an Observation and its components, for the `detail` of a refusal."""
    if isinstance(resource, dict):
        if resource.get("resourceType") != "Observation":
            return ()
        resource = Observation.of(resource)
    concepts = (coded(part.code).concept for part in resource.parts)
    return tuple(dict.fromkeys(concept.name for concept in concepts if concept is not None))


def refusals(resource: Observation | Resource, source: str, reason: str) -> Iterator[Refusal]:
    """Yields one refusal of a resource, or one for each concept it would have measured."""
    for name in concepts_of(resource) or (None,):
        yield Refusal(source, reason, name)


def observed_at(observation: Observation) -> Instant | None:
    """Returns the clinical time: effectiveDateTime, effectiveInstant, the end (else start) of effectivePeriod, the last
    event of effectiveTiming, else issued.

    Using `issued` can only make a value look newer, never use one after the prediction time. A period that ends before
    it starts gives None.
    """
    for text in (observation.effectiveDateTime, observation.effectiveInstant):
        if text is not None:
            return parse_instant(text)
    period = observation.effectivePeriod
    if isinstance(period, dict):
        start, end = parse_instant(period.get("start")), parse_instant(period.get("end"))
        reversed_ = start is not None and end is not None and end.latest < start.earliest
        return None if reversed_ else end or start
    timing = observation.effectiveTiming
    if isinstance(timing, dict):
        events = timing.get("event")
        times = [t for t in map(parse_instant, events if isinstance(events, list) else ()) if t is not None]
        return max(times, key=lambda time: time.latest, default=None)
    return parse_instant(observation.issued)


def observed_by(observation: Observation, prediction_time: datetime) -> bool:
    """Whether an Observation was measured and issued by `prediction_time`; without a time it counts as not known."""
    return observed_at(observation) is not None and not observed_later(observation, prediction_time)


def observed_later(observation: Observation, prediction_time: datetime) -> bool:
    """Whether an Observation has a time that may be after `prediction_time`: a result is known when issued, not
    when the blood was drawn."""
    for instant in (observed_at(observation), parse_instant(observation.issued)):
        if instant is not None and not reachable(instant, prediction_time):
            return True
    return False


def _measure(
    observation: Observation,
    parts: list[_Measuring],
    source: str,
    directory: Directory,
    found: list[_Ranked],
    refused: list[Refusal],
    *,
    preliminary: bool,
) -> None:
    """Appends to `found` every value of a known concept in one Observation and its components."""
    at, issued = observed_at(observation), parse_instant(observation.issued)
    reason = _why_not(observation, at, preliminary=preliminary)
    if reason is not None:
        refused += [Refusal(source, reason, concept.name) for _, concept, _ in parts]
        return
    assert at is not None
    if at.zone_assumed:
        refused.append(Refusal(source, "time-without-zone", "read as UTC"))
    known = definitions()
    specimen = None if observation.specimen is None else _specimen(observation, directory, known)
    rank, when, since = _RANK[observation.status], moment(at), issued.latest.timestamp() if issued else 0.0
    for part, concept, loinc in parts:
        value, why = usable_value(part, concept, known, loinc)
        if specimen is not None and concept.specimen and specimen not in _FITTING[concept.specimen]:
            value, why = None, "specimen-conflict"
        if value is None:
            refused.append(Refusal(source, why, concept.name))
            continue
        by_reference = loinc in concept.reference_method
        found.append(_Ranked(concept.name, when, rank, by_reference, since, source, value, concept.unit))


_Measuring = tuple[ObservationPart, ConceptDefinition, str | None]


def _measuring(observation: Observation, meanings: Meanings, source: str, refused: list[Refusal]) -> list[_Measuring]:
    """Returns the parts that measure a known concept, with concept and LOINC code."""
    found: list[_Measuring] = []
    for part, meaning in zip(observation.parts, meanings, strict=True):
        if meaning.concept is None:
            continue
        if meaning.consistent:
            found.append((part, meaning.concept, meaning.loinc))
        else:
            refused.append(Refusal(source, "codes-disagree", meaning.concept.name))
    return found


def _why_not(observation: Observation, at: Instant | None, *, preliminary: bool) -> str | None:
    if at is None:
        return "no-time"
    status = observation.status
    if not isinstance(status, str) or status not in _RANK:
        return status_reason(status)
    return "status-preliminary" if status == "preliminary" and not preliminary else None


def _specimen(observation: Observation, directory: Directory, known: Definitions) -> str | None:
    """Returns the kind of the referenced specimen, or None if it is not a known one."""
    reference = observation.specimen
    if not isinstance(reference, dict):
        return None
    specimen = directory.resolve(reference, {"contained": observation.contained})
    kind = specimen.get("type") if specimen is not None else None
    codes = {coding.code for coding in codings(kind)}
    by_code = next((s.name for s in known.specimens if codes & s.codes), None)
    if by_code is not None:
        return by_code
    display = reference.get("display")
    text = f"{text_of(kind)} {display if isinstance(display, str) else ''}".lower()
    return next((s.name for s in known.specimens if any(word in text for word in s.words)), None)


def _one_per_time(found: list[_Ranked], refused: list[Refusal]) -> Iterator[Measurement]:
    """Yields one value per concept and time, in that order; the others are listed in `refused`."""
    found.sort()
    for ranked, after in zip(found, [*found[1:], None], strict=False):
        concept, time, rank, _, _, source, value, unit = ranked
        if after is None or after[1] != time or after[0] != concept:
            yield Measurement(concept, value, unit, time, source, rank == 0)
        elif after.value != value:
            refused.append(Refusal(source, ranked.before(after)))


def _without_inverted_pressures(items: Iterator[Measurement], refused: list[Refusal]) -> Iterator[Measurement]:
    """Yields the measurements without pressures of times at which the systolic is not above the diastolic."""
    listed = list(items)
    systolic = {item.time: item.value for item in listed if item.concept == "systolic_bp"}
    diastolic = {item.time: item.value for item in listed if item.concept == "diastolic_bp"}
    inverted = {time for time, value in diastolic.items() if time in systolic and systolic[time] <= value}
    for item in listed:
        if item.concept in {"systolic_bp", "diastolic_bp"} and item.time in inverted:
            refused.append(Refusal(item.source, "pressure-inverted", item.concept))
        else:
            yield item


def _consciousness(observation: Observation) -> tuple[str, datetime] | None:
    """Returns the level of consciousness (AVPU or new confusion) and its time, or None."""
    if observation.dataAbsentReason:
        return None
    at = observed_at(observation)
    if at is None or _why_not(observation, at, preliminary=True):
        return None
    for coding in codings(observation.valueCodeableConcept):
        level = _CONSCIOUSNESS.get((coding.system or "", coding.code))
        if level:
            return level, moment(at)
    return None
