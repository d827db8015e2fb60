"""Problems of a record and their diagnosis groups: comorbidities, pregnancy, hospice care."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fhir_mapping.core.values import Coding
from fhir_mapping.record.record_view import RecordView
from fhir_mapping.terminology.diagnosis_tables import (
    DiagnosisGroup,
    Scheme,
    diagnosis_groups,
    diagnosis_table,
    groups_holding,
    scheme_groups,
)
from fhir_mapping.terminology.icd import ICD_SYSTEMS, is_readable


@dataclass(frozen=True, slots=True)
class PatientGroups:
    """The groups of a patient with their weights, without the lesser of two grades; `sources` has all groups found.

    `unknown` is the number of conditions whose disease is not known (no ICD code, no SNOMED CT disease of the maps):
    any of them might belong to any group. It is -1 if the problem list was not fetched. `reason` says why.
    """

    weights: Mapping[str, int]
    unknown: int
    sources: Mapping[str, tuple[str, ...]]
    reason: str = ""


def current_problems(record: RecordView) -> Iterator[tuple[str, tuple[Coding, ...]]]:
    """Yields source and codings of the patient's problems: conditions not abated, and the reasons of the stay.

    A lasting disease (diabetes, a previous infarction) counts even if its entry is not marked active.
    """
    for condition in record.conditions:
        if condition.active or condition.abated is None:
            yield condition.source, condition.codings
    if record.current_stay is not None and record.current_stay.reasons:
        yield record.current_stay.source, record.current_stay.reasons


def active_groups(record: RecordView) -> Mapping[str, tuple[str, ...]]:
    """Returns the diagnosis groups of the patient, each with its source keys."""
    found: dict[str, list[str]] = {}
    for source, codings in current_problems(record):
        for name in diagnosis_groups(codings):
            found.setdefault(name, []).append(source)
    return {name: tuple(sources) for name, sources in found.items()}


def comorbidity_groups(record: RecordView, scheme: Scheme) -> PatientGroups:
    """Returns the groups of a comorbidity scheme for the problems of a record."""
    sources: dict[str, list[str]] = {}
    unread = malformed = 0
    for source, codings in current_problems(record):
        if not any(map(is_readable, codings)):
            unread += 1
            malformed += any(coding.system in ICD_SYSTEMS for coding in codings)
        for name in dict.fromkeys(name for coding in codings for name in groups_holding(scheme, coding)):
            sources.setdefault(name, []).append(source)
    lesser = {group.over for group in scheme_groups(scheme) if group.name in sources}
    weights = {g.name: g.weight for g in scheme_groups(scheme) if g.name in sources and g.name not in lesser}
    missing = "Condition" in record.not_fetched
    reason = "not-fetched" if missing else "code-not-understood" if malformed else "code-not-mapped"
    listed = {name: tuple(found) for name, found in sources.items()}
    return PatientGroups(weights, -1 if missing else unread, listed, reason)


def is_pregnant(record: RecordView) -> bool:
    """Whether a pregnancy is an active problem, or the reason, type, service or a procedure of the stay."""
    return _concerns(record, diagnosis_table().pregnancy)


def is_in_hospice(record: RecordView) -> bool:
    """Whether hospice or palliative care is an active problem, or the reason, type or a procedure of the stay."""
    return _concerns(record, diagnosis_table().hospice)


def _concerns(record: RecordView, group: DiagnosisGroup) -> bool:
    """Whether an active condition, or a reason, type, service or procedure of the stay, is in the group."""
    stay = record.current_stay
    found = [coding for condition in record.conditions if condition.active for coding in condition.codings]
    if stay is not None:
        found += [*stay.reasons, *stay.codings]
        found += [c for procedure in record.procedures if procedure.stay == stay.source for c in procedure.codings]
    return any(group.holds(coding) for coding in found)
