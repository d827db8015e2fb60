"""Selects the current stay of a record, says why there is none, and leaves out what other visits recorded during it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fhir_mapping.core.times import moment
from fhir_mapping.core.values import Refusal, Stay, StayClass
from fhir_mapping.parsing.elements import Observation, fragment
from fhir_mapping.parsing.references import Directory
from fhir_mapping.resources.measurements import Read, concepts_of, observed_at
from fhir_mapping.resources.stays import StaysRead

NO_STAY = "no-stay"


def current_stay(read: StaysRead, at: datetime, asked: str | None, refused: list[Refusal]) -> tuple[Stay | None, str]:
    """Returns the stay of the Encounter `asked` (its key), or the one running (or just ending) at the prediction time;
    and why there is none: `no-stay`, `encounter-not-found`, or why it is unknown whether an encounter is one."""
    undated = [item for item in read.undated if item.may_be(StayClass.INPATIENT)]
    if asked is None:
        running = [stay for stay in read.stays if stay.running or (stay.end is not None and stay.end >= at)]
        stay, reason = _chosen(running)
        return stay, "no-start" if reason == NO_STAY and any(item.running for item in undated) else reason
    if asked in {item.source for item in undated}:
        return None, "no-start"
    root = read.members.get(asked)
    if root is None:
        refused.append(Refusal(asked, "encounter-not-found"))
        return None, "encounter-not-found"
    return _chosen([stay for stay in read.stays if stay.source == root])


def _chosen(stays: Sequence[Stay]) -> tuple[Stay | None, str]:
    inpatient = [stay for stay in stays if stay.stay_class is StayClass.INPATIENT]
    if inpatient:
        return inpatient[-1], ""
    return None, next((stay.class_unknown for stay in reversed(stays) if stay.class_unknown), NO_STAY)


def made_during(
    stay: Stay, visits: frozenset[str], observations: list[Read], directory: Directory, refused: list[Refusal]
) -> list[Read]:
    """Returns the Observations without those of the stay's time that were made in another visit.

    `visits` are the keys of other visits (`StaysRead.other_visits`). An Observation that names a device is kept:
    monitors and home devices are on the patient, whatever encounter they write.
    """
    if not visits:
        return observations
    kept: list[Read] = []
    for read in observations:
        source, observation, _ = read
        elsewhere = observation.encounter and not observation.device and _during(observation, stay)
        if elsewhere and directory.key(fragment(observation.encounter)) in visits:
            refused.extend(Refusal(source, "other-encounter", name) for name in concepts_of(observation) or (None,))
        else:
            kept.append(read)
    return kept


def _during(observation: Observation, stay: Stay) -> bool:
    at = observed_at(observation)
    return at is not None and moment(at) >= stay.start and (stay.end is None or moment(at) <= stay.end)
