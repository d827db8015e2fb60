"""Reads Observations into `Measurement`s in the canonical unit of a known concept, or refusals with a reason.

FHIR R4 Observation (https://hl7.org/fhir/R4/observation.html). Concepts are found by LOINC and SNOMED CT codes, in any
position among the codings; local codes are never guessed from their text. What measures a concept and cannot be read is
refused for that concept: it is not "none found".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from fhir_mapping.core.reasons import status_reason
from fhir_mapping.core.times import moment, parse_instant, reachable
from fhir_mapping.core.values import Instant, Measurement, Refusal
from fhir_mapping.parsing.elements import Observation, ObservationPart, Resource, values_of
from fhir_mapping.parsing.observation_codes import ObservationCodes, coded
from fhir_mapping.parsing.references import Directory
from fhir_mapping.resources.consciousness import CONSCIOUSNESS, Level, level_of
from fhir_mapping.resources.quantities import usable_value
from fhir_mapping.terminology.codes import SNOMED, codings, text_of
from fhir_mapping.terminology.concepts import ConceptDefinition, Definitions, definitions

# Which of two values with the same time is used: a correction before the original, a final before a preliminary one.
_RANK = {"preliminary": 0, "final": 1, "amended": 2, "corrected": 2}
_FITTING = {
    "blood": frozenset({"blood", "arterial", "venous", "capillary"}),
    "arterial": frozenset({"blood", "arterial"}),
    "urine": frozenset({"urine"}),
}
Meanings = tuple[ObservationCodes, ...]
Read = tuple[str, Observation, Meanings]
"""An Observation of a known concept: its key, itself, and the meaning of its codes."""


class _Ranked(NamedTuple):
    """A value and, in order of precedence, the criteria between values of one concept at one time."""

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
) -> tuple[tuple[Measurement, ...], Level | None]:
    """Returns every measurement, ordered by concept and time, and the latest level of consciousness.

    Of two values of one concept at one time the later status counts (corrected, final, preliminary), then the
    reference method (an arterial line before a cuff), then the later issued, then the greater source; the other is
    listed in `refused`. `preliminary=False` uses final values only.
    """
    found: list[_Ranked] = []
    latest: Level | None = None
    listing: list[tuple[str, Observation, tuple[str, ...]]] = []
    for source, observation, meanings in observations:
        parts = _measuring(observation, meanings, source, refused)
        if parts:
            _measure(observation, parts, source, directory, found, refused, preliminary=preliminary)
        if meanings[0].panel and _only_lists(observation):
            listing.append((source, observation, meanings[0].panel))
        elif meanings[0].panel:
            refused += _unread_members(observation, meanings, source, preliminary=preliminary)
        for part, meaning in zip(observation.parts, meanings, strict=True) if _has_scale(meanings) else ():
            if meaning.consciousness:
                level = _level(observation, part, source, refused, preliminary=preliminary)
                latest = level if latest is None or (level and level[1:] > latest[1:]) else latest
    if listing:
        refused += list(_unread_lists(listing, directory, {ranked.concept for ranked in found}, refused))
    return tuple(_without_inverted_pressures(_one_per_time(found, refused), refused)), latest


def _has_scale(meanings: Meanings) -> bool:
    return meanings[0].consciousness or (len(meanings) > 1 and any(meaning.consciousness for meaning in meanings))


def meanings_of(observation: Observation) -> Meanings:
    """Returns the meanings of the codes of an Observation and of its components, in the order of `parts`."""
    if not observation.component:
        return (coded(observation.code),)
    return tuple([coded(part.code) for part in observation.parts])


def meaning_of(code: Any) -> ObservationCodes:
    """Returns the meaning of the decoded code of an Observation or component."""
    return meanings_of(Observation.of({"code": code}))[0]


def wanted(meanings: Meanings) -> bool:
    """Whether one of the codes is that of a known concept in any code system; a quick check before reading."""
    return meanings[0].wanted or (len(meanings) > 1 and any(meaning.wanted for meaning in meanings))


def unmapped(untranslated: Iterable[Meanings]) -> Iterator[Refusal]:
    """Returns one refusal for each local code system that no site map translates, with its number of Observations."""
    local = (meanings for meanings in untranslated if not any(meaning.understood for meaning in meanings))
    systems = Counter(meanings[0].first_system for meanings in local)
    return (Refusal("Observation", "code-not-mapped", f"{n} of {s}") for s, n in sorted(systems.items()))


def concepts_of(resource: Observation | Resource) -> tuple[str, ...]:
    """Returns the names of the concepts of an Observation and its components, for the `detail` of a refusal."""
    if isinstance(resource, dict):
        if resource.get("resourceType") != "Observation":
            return ()
        resource = Observation.of(resource)
    return tuple(dict.fromkeys(name for part in resource.parts for name in _names(coded(part.code))))


def _names(meaning: ObservationCodes) -> Iterator[str]:
    if meaning.concept is not None:
        yield meaning.concept.name
    if meaning.consciousness:
        yield CONSCIOUSNESS
    yield from meaning.panel


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
    for part, concept, meaning in parts:
        value, why = usable_value(part, concept, known, meaning.loinc)
        drawn = specimen or (meaning.specimen if concept.group == "laboratory" else None)
        if drawn is not None and concept.specimen and drawn not in _FITTING[concept.specimen]:
            value, why = None, "specimen-conflict"
        if value is None:
            refused.append(Refusal(source, why, concept.name))
            continue
        by_reference = meaning.loinc in concept.reference_method
        found.append(_Ranked(concept.name, when, rank, by_reference, since, source, value, concept.unit))


_Measuring = tuple[ObservationPart, ConceptDefinition, ObservationCodes]


def _measuring(observation: Observation, meanings: Meanings, source: str, refused: list[Refusal]) -> list[_Measuring]:
    """Returns the parts that measure a known concept, with concept and codes.

    What is said of the whole (its code's text, the body site) narrows its components too.
    """
    found: list[_Measuring] = []
    site = observation.bodySite
    for part, meaning in zip(observation.parts, meanings, strict=True):
        concept = meaning.concept
        if concept is None:
            continue
        if not meaning.consistent or (part is not observation and _is_other(concept, meanings[0])):
            refused.append(Refusal(source, "codes-disagree", concept.name))
        elif site is not None and _elsewhere(concept, site):
            refused.append(Refusal(source, "body-site-conflict", concept.name))
        else:
            found.append((part, concept, meaning))
    return found


def _is_other(concept: ConceptDefinition, whole: ObservationCodes) -> bool:
    return bool(whole.words) and concept.is_other(whole.words)


def _elsewhere(concept: ConceptDefinition, site: Any) -> bool:
    """Whether a body site makes the value another quantity, such as a pressure in the pulmonary artery."""
    codes = {coding.code for coding in codings(site) if coding.system in {SNOMED, None}}
    if concept.peripheral and not codes.isdisjoint(definitions().central_sites):
        return True
    displays = " ".join(coding.display for coding in codings(site) if coding.display)
    return concept.is_other(f"{text_of(site)} {displays}")


def _unread_members(
    observation: Observation, meanings: Meanings, source: str, *, preliminary: bool
) -> Iterator[Refusal]:
    """Yields a refusal for each concept of a panel that no component is coded as."""
    members = meanings[0].panel
    has_value = values_of(observation) > 0
    read = {meaning.concept.name for meaning in meanings if meaning.concept is not None}
    missing = [name for name in members if name not in read]
    if not missing:
        return
    reason = _why_not(observation, observed_at(observation), preliminary=preliminary)
    if reason is None and has_value:
        reason = "value-not-a-number"
    if reason is None and observation.dataAbsentReason:
        reason = "data-absent"
    if reason is None:
        local = any(not meaning.understood for meaning in meanings[1:])
        reason = "code-not-mapped" if local else "no-value"
    yield from (Refusal(source, reason, name) for name in missing)


def _only_lists(panel: Observation) -> bool:
    """Whether the values of a panel are those of other Observations."""
    return bool(panel.hasMember) and not panel.component and not values_of(panel)


def _unread_lists(
    listing: Iterable[tuple[str, Observation, tuple[str, ...]]],
    directory: Directory,
    measured: Collection[str],
    refused: Iterable[Refusal],
) -> Iterator[Refusal]:
    """Yields a refusal for each concept of a panel that no Observation measures, or was refused for, in the record."""
    named = {refusal.detail for refusal in refused}
    for source, panel, concepts in listing:
        members = panel.hasMember if isinstance(panel.hasMember, list) else []
        there = all(directory.resolve(member) is not None for member in members)
        for name in concepts:
            if name not in measured and name not in named and status_reason(panel.status) != "status-entered-in-error":
                yield Refusal(source, "code-not-mapped" if there else "not-fetched", name)


def _level(
    observation: Observation, part: ObservationPart, source: str, refused: list[Refusal], *, preliminary: bool
) -> Level | None:
    """Returns the level of consciousness with its time and source, or None after a refusal that says why."""
    at = observed_at(observation)
    reason = _why_not(observation, at, preliminary=preliminary)
    level, why = (None, reason) if reason is not None else level_of(part)
    if level is None or at is None:
        refused.append(Refusal(source, why or "no-time", CONSCIOUSNESS))
        return None
    return level, moment(at), source


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
    return known.specimen_of(f"{text_of(kind)} {display if isinstance(display, str) else ''}")


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
