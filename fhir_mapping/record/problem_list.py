"""The problems of a record and the diagnosis groups they fall into: comorbidities, pregnancy, hospice care."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fhir_mapping.core.values import Coding
from fhir_mapping.record.record_view import RecordView
from fhir_mapping.terminology.diagnosis_tables import (
    READABLE_SYSTEMS,
    DiagnosisGroup,
    Scheme,
    diagnosis_groups,
    diagnosis_table,
    groups_holding,
    scheme_groups,
)


@dataclass(frozen=True, slots=True)
class PatientGroups:
    """Groups a patient is in (the lesser of two grades left out), each with its weight; `sources` name all found.

    `unknown` counts the conditions coded in no ICD: any of them might belong to any group. It is -1 where the problem
    list was not fetched at all.
    """

    weights: Mapping[str, int]
    unknown: int
    sources: Mapping[str, tuple[str, ...]]


def current_problems(record: RecordView) -> Iterator[tuple[str, tuple[Coding, ...]]]:
    """What the patient has by now, with its source: active conditions and the reasons of the stay.

    A disease that does not leave (diabetes, a previous infarction) counts even when its entry is not marked active.
    """
    for condition in record.conditions:
        if condition.active or condition.abated is None:
            yield condition.source, condition.codings
    if record.current_stay is not None and record.current_stay.reasons:
        yield record.current_stay.source, record.current_stay.reasons


def active_groups(record: RecordView) -> Mapping[str, tuple[str, ...]]:
    """Diagnosis groups the patient is in, each with its source ids."""
    found: dict[str, list[str]] = {}
    for source, codings in current_problems(record):
        for name in diagnosis_groups(codings):
            found.setdefault(name, []).append(source)
    return {name: tuple(sources) for name, sources in found.items()}


def comorbidity_groups(record: RecordView, scheme: Scheme) -> PatientGroups:
    """The groups of a scheme that a record's problems and the reasons of its stay fall into."""
    sources: dict[str, list[str]] = {}
    unread = 0
    for source, codings in current_problems(record):
        unread += not any(coding.system in READABLE_SYSTEMS for coding in codings)
        for name in dict.fromkeys(name for coding in codings for name in groups_holding(scheme, coding)):
            sources.setdefault(name, []).append(source)
    lesser = {group.over for group in scheme_groups(scheme) if group.name in sources}
    weights = {g.name: g.weight for g in scheme_groups(scheme) if g.name in sources and g.name not in lesser}
    missing = "Condition" in record.not_fetched
    return PatientGroups(weights, -1 if missing else unread, {name: tuple(found) for name, found in sources.items()})


def is_pregnant(record: RecordView) -> bool:
    """Whether a pregnancy is on the problem list now, or is the reason, kind or service of the stay."""
    return _concerns(record, diagnosis_table().pregnancy)


def is_in_hospice(record: RecordView) -> bool:
    """Whether hospice or palliative care is on the problem list now, or began with this stay."""
    return _concerns(record, diagnosis_table().hospice)


def _concerns(record: RecordView, group: DiagnosisGroup) -> bool:
    """Whether an active condition, or the stay's reason, kind, service or a procedure, is of the group."""
    stay = record.current_stay
    found = [coding for condition in record.conditions if condition.active for coding in condition.codings]
    if stay is not None:
        found += [*stay.reasons, *stay.codings]
        found += [c for procedure in record.procedures if procedure.stay == stay.source for c in procedure.codings]
    return any(group.holds(coding) for coding in found)
