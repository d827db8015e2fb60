"""Data tables of this room, read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from fhir_mapping import Coding, PatientRecord

_ICD10 = frozenset({"http://hl7.org/fhir/sid/icd-10-cm", "http://hl7.org/fhir/sid/icd-10"})
_ICD9 = frozenset({"http://hl7.org/fhir/sid/icd-9-cm"})
_SNOMED = frozenset({"http://snomed.info/sct"})


@dataclass(frozen=True, slots=True)
class DiagnosisGroup:
    name: str
    label: str
    icd10: tuple[str, ...]
    icd9: tuple[str, ...]
    snomed: frozenset[str]
    lace: int

    def holds(self, coding: Coding) -> bool:
        """Whether a coding falls into the group. The code system decides how the code is read; without one, never."""
        if coding.system in _SNOMED:
            return coding.code in self.snomed
        bare = coding.code.replace(".", "").upper()
        if coding.system in _ICD10:
            return bare.startswith(self.icd10)
        return coding.system in _ICD9 and bare.startswith(self.icd9)


@dataclass(frozen=True, slots=True)
class DiagnosisTable:
    groups: Mapping[str, DiagnosisGroup]
    over: Mapping[str, tuple[str, ...]]
    """A group that makes others of the same disease redundant in a score."""
    pregnancy: DiagnosisGroup
    """No input of a model: adult scores are not meant for it."""
    hospice: DiagnosisGroup
    """No input of a model either: its patients are outside all of them."""

    def of(self, codings: Iterable[Coding]) -> frozenset[str]:
        found = tuple(codings)
        return frozenset(name for name, group in self.groups.items() if any(group.holds(coding) for coding in found))


@cache
def diagnosis_table() -> DiagnosisTable:
    raw = orjson.loads(files(__package__).joinpath("diagnosis_groups.json").read_bytes())
    groups = {name: _group(name, group) for name, group in raw["groups"].items()}
    over = {name: tuple(others) for name, others in raw["over"].items()}
    return DiagnosisTable(groups, over, *(_group(name, raw[name]) for name in ("pregnancy", "hospice")))


def _group(name: str, raw: Mapping[str, Any]) -> DiagnosisGroup:
    return DiagnosisGroup(
        name, raw["label"], tuple(raw["icd10"]), tuple(raw["icd9"]), frozenset(raw["snomed"]), raw["lace"]
    )


def pregnant(record: PatientRecord) -> bool:
    """Whether a pregnancy is on the problem list now, or is the reason, kind or service of the stay."""
    return _concerns(record, diagnosis_table().pregnancy)


def in_hospice(record: PatientRecord) -> bool:
    """Whether hospice or palliative care is on the problem list now, or began with this stay."""
    return _concerns(record, diagnosis_table().hospice)


def _concerns(record: PatientRecord, group: DiagnosisGroup) -> bool:
    """Whether an active condition, or the stay's reason, kind, service or a procedure, is of the group."""
    stay = record.current_stay
    found = [coding for condition in record.conditions if condition.active for coding in condition.codings]
    if stay is not None:
        found += [*stay.reasons, *stay.codings]
        found += [c for procedure in record.procedures if procedure.stay == stay.source for c in procedure.codings]
    return any(group.holds(coding) for coding in found)


def active_groups(record: PatientRecord) -> Mapping[str, tuple[str, ...]]:
    """Diagnosis groups the patient has by now, each with its source ids: active conditions and reasons of the stay.

    A disease that does not leave (diabetes, a previous infarction) counts even when its entry is not marked active.
    """
    table = diagnosis_table()
    found: dict[str, list[str]] = {}
    for condition in record.conditions:
        if condition.active or condition.abated is None:
            for name in table.of(condition.codings):
                found.setdefault(name, []).append(condition.source)
    if record.current_stay is not None:
        for name in table.of(record.current_stay.reasons):
            found.setdefault(name, []).append(record.current_stay.source)
    return {name: tuple(sources) for name, sources in found.items()}
