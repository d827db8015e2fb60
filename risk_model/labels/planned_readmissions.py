"""Planned and potentially avoidable readmissions.

`planned` follows the structure of CMS's planned-readmission algorithm 4.0 (Horwitz et al., Ann Intern Med 2015;163:16;
CMS Hospital-Wide Readmission measure specifications)::

    always-planned procedure (transplant) ----------------------------------> planned
    always-planned diagnosis (maintenance chemotherapy, rehabilitation) ----> planned
    potentially planned procedure and no acute principal diagnosis ---------> planned
    everything else --------------------------------------------------------> unplanned

Approximated: CMS names its categories by AHRQ CCS; ours are ICD and SNOMED CT codes of the procedures and diagnoses we
could state with certainty (`tables/planned_readmission.yaml`), so a rare potentially planned procedure counts as
unplanned. The acute diagnoses are ICD chapters and categories instead of CCS categories. A principal diagnosis is the
reason of the stay, else its first condition. Where a stay has neither procedure nor diagnosis, a coded elective
admission is planned; where nothing at all is coded it is unplanned, as in CMS's own data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from fhir_mapping import Coding, Stay
from fhir_mapping.terminology import ICD9CM, ICD10, ICD10CM, SNOMED, diagnosis_groups
from risk_model.labels.timeline import PatientTimeline

_ICD10PCS = "http://www.cms.gov/Medicare/Coding/ICD10"
_SYSTEMS = {
    ICD10CM: "icd10",
    ICD10: "icd10",
    ICD9CM: "icd9",
    _ICD10PCS: "icd10pcs",
    "http://hl7.org/fhir/sid/icd-9-cm/procedure": "icd9pcs",
    SNOMED: "snomed",
}


@dataclass(frozen=True, slots=True)
class _Codes:
    by_system: Mapping[str, tuple[str, ...]]

    def holds(self, coding: Coding) -> bool:
        system = _SYSTEMS.get(coding.system or "")
        wanted = self.by_system.get(system or "", ())
        if system == "snomed":
            return coding.code in wanted
        return bool(wanted) and coding.code.replace(".", "").upper().startswith(wanted)


@cache
def _table() -> Mapping[str, tuple[_Codes, ...]]:
    raw = yaml.safe_load(files("risk_model.tables").joinpath("planned_readmission.yaml").read_bytes())
    return {name: tuple(_codes(entry) for entry in entries) for name, entries in raw.items() if name != "about"}


def _codes(entry: Mapping[str, Any]) -> _Codes:
    return _Codes({name: tuple(str(code) for code in codes) for name, codes in entry.items() if name != "name"})


def _any(name: str, codings: tuple[Coding, ...]) -> bool:
    return any(codes.holds(coding) for codes in _table()[name] for coding in codings)


def planned(stay: Stay, timeline: PatientTimeline) -> bool:
    """Whether an admission was planned."""
    procedures, diagnosis = _procedures(stay, timeline), principal_diagnosis(stay, timeline)
    if not procedures and not diagnosis:
        return stay.acute is False
    if _any("always_planned_procedures", procedures) or _any("always_planned_diagnoses", diagnosis):
        return True
    return _any("potentially_planned_procedures", procedures) and not _any("acute_diagnoses", diagnosis)


def _procedures(stay: Stay, timeline: PatientTimeline) -> tuple[Coding, ...]:
    return tuple(c for e in _of(stay, timeline, "procedure") for c in e)


def principal_diagnosis(stay: Stay, timeline: PatientTimeline) -> tuple[Coding, ...]:
    """Returns the reason of the stay, else the codings of its first condition, else nothing."""
    return stay.reasons or next(_of(stay, timeline, "condition"), ())


def _diagnoses(stay: Stay, timeline: PatientTimeline) -> tuple[Coding, ...]:
    return (*stay.reasons, *(c for e in _of(stay, timeline, "condition") for c in e))


def _of(stay: Stay, timeline: PatientTimeline, kind: str) -> Iterator[tuple[Coding, ...]]:
    """Yields codings of the events of a stay: those that reference it, else those dated in it."""
    for event in timeline.events_of(kind):
        inside = event.time is not None and stay.start <= event.time and (stay.end is None or event.time <= stay.end)
        if event.stay == stay.source if event.stay else inside:
            yield event.codings


def avoidable(stay: Stay, index: Stay, timeline: PatientTimeline) -> bool | None:
    """Whether a readmission is potentially avoidable; None if its diagnoses or the index stay's are not coded.

    After Halfon et al. (Med Care 2006;44:972), as in the derivation of HOSPITAL: unforeseen (not planned), and for a
    disease already known in the index stay or a complication of its care. Approximated: their grouper, SQLape, is not
    public; "the same disease" here is the same diagnosis group, or the same first three characters of an ICD code.
    """
    if planned(stay, timeline):
        return False
    reason, known = principal_diagnosis(stay, timeline), _diagnoses(index, timeline)
    if not reason or not known:
        return None
    same_group = bool(diagnosis_groups(reason) & diagnosis_groups(known))
    same_category = bool({_category(c) for c in reason} & {_category(c) for c in known})
    return same_group or same_category or _any("complications_of_care", reason)


def same_condition(stay: Stay, index: Stay, timeline: PatientTimeline) -> bool | None:
    """Whether two stays share a principal diagnosis (its three ICD characters); None if either is not coded."""
    first, second = principal_diagnosis(index, timeline), principal_diagnosis(stay, timeline)
    if not first or not second:
        return None
    return bool({_category(c) for c in first} & {_category(c) for c in second})


def _category(coding: Coding) -> tuple[str | None, str]:
    icd = _SYSTEMS.get(coding.system or "") in {"icd9", "icd10"}
    return coding.system, coding.code.replace(".", "").upper()[:3] if icd else coding.code
