"""Corrects what patient generators write and no hospital would: visits during a stay, internal names, social facts as
problems. `generate` applies it to every chart that is shipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from fhir_mapping.core import parse_instant
from fhir_mapping.parsing import Resource

# Synthea gives the name of a module's attribute as the reason of a visit. What is not here and looks like such a name
# is dropped.
_REASONS = {
    "abnormal findings": "Abnormal heart imaging",
    "addiction_overdose": "Drug overdose",
    "anemia": "Anemia",
    "broken_bone": "Fracture",
    "broken_bone_injury": "Fracture",
    "bronchitis_infection": "Acute bronchitis",
    "cardiac_surgery_reason": "Follow-up of heart surgery",
    "concussion_injury": "Concussion",
    "dental_referral": "Dental care",
    "diabetes_stage": "Type 2 diabetes",
    "gets_ear_infection": "Ear infection",
    "hypertension_dx": "Hypertension",
    "hypertension_screening_reason": "Blood pressure check",
    "knee_injury": "Knee injury",
    "medication_review_due": "Medication review",
    "misuse_overdose": "Drug overdose",
    "opioid_drug_addiction": "Opioid use disorder",
    "osteoarthritis": "Osteoarthritis",
    "sinusitis condition": "Sinusitis",
    "snf_reason": "Rehabilitation after an injury",
    "sore throat condition": "Sore throat",
    "sprain_injury": "Sprain",
    "suspected_prostate_cancer": "Suspected prostate cancer",
}
_INTERNAL = re.compile(r"\w+_\w+\Z")
_TAG = re.compile(r" \((disorder|finding|situation|procedure|person|morphologic abnormality)\)\Z")
# Conditions that are facts of life or chores, not problems of the patient.
_NO_PROBLEM = re.compile(
    r"medication review|education|employment|labor force|military|refugee|criminal|housing|social |stress \(finding\)|"
    r"transport|risk activity|\(person\)",
    re.IGNORECASE,
)
# Chronic diseases by ICD-10-CM: where visits are for one, it is on the problem list.
_CHRONIC = re.compile(r"(I10|J44\.9|E11\.9|E78\.5)\Z")
_ICD = "http://hl7.org/fhir/sid/icd-10-cm"
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"


def cleaned(resources: Sequence[Resource]) -> list[Resource]:
    """Returns the chart without these faults; resources keep their order."""
    kept = list(_without_visits_in_stays(resources))
    kept = [_plain(resource) for resource in kept if not _is_no_problem(resource)]
    return [*_listed_once(kept), *_treated(kept)]


def _without_visits_in_stays(resources: Sequence[Resource]) -> Iterator[Resource]:
    """Drops outpatient visits that begin while the patient is in hospital, with everything recorded in them: values of
    a clinic would be read as those of the ward.
    """
    stays = [_period(r) for r in resources if _class_of(r) in {"IMP", "ACUTE", "NONAC"}]
    dropped = set()
    for visit in resources:
        begun = _period(visit)[0] if _class_of(visit) == "AMB" else None
        if begun and any(s and s <= begun and (e is None or begun < e) for s, e in stays):
            dropped.add(str(visit["id"]))
    yield from (r for r in resources if not dropped & {str(r.get("id")), *_encounters_of(r)})


def _class_of(resource: Resource) -> str:
    kind = resource.get("class") if resource.get("resourceType") == "Encounter" else None
    return str(kind.get("code", "")) if isinstance(kind, dict) else ""


def _period(encounter: Resource) -> tuple[datetime | None, datetime | None]:
    period = encounter.get("period") or {}
    start, end = parse_instant(period.get("start")), parse_instant(period.get("end"))
    return start.earliest if start else None, end.earliest if end else None


def _encounters_of(resource: Resource) -> Iterator[str]:
    """The ids of the encounters a resource belongs to, in its `encounter` or its `context`."""
    context = resource.get("context") or {}
    listed = context.get("encounter") or [] if isinstance(context, dict) else []
    for reference in (resource.get("encounter"), *(listed if isinstance(listed, list) else [listed])):
        if isinstance(reference, dict):
            yield re.split(r"[/:]", str(reference.get("reference", "")))[-1]


def _plain(resource: Resource) -> Resource:
    """The resource with names as a chart has them."""
    plain: Resource = _untagged(resource)
    reasons = [_reason(reason) for reason in plain.get("reasonCode", ())]
    if "reasonCode" in plain:
        plain["reasonCode"] = [reason for reason in reasons if reason is not None]
    return {name: value for name, value in plain.items() if value != []}


def _untagged(value: Any) -> Any:
    """SNOMED CT's semantic tags belong to its fully specified names, not to a chart."""
    if isinstance(value, dict):
        return {
            name: _TAG.sub("", item) if name in {"display", "text"} and isinstance(item, str) else _untagged(item)
            for name, item in value.items()
        }
    return [_untagged(item) for item in value] if isinstance(value, list) else value


def _reason(reason: dict[str, Any]) -> dict[str, Any] | None:
    text = str(reason.get("text", ""))
    words = _REASONS.get(text.casefold())
    if words is not None:
        return {**reason, "text": words}
    return None if _INTERNAL.match(text) and not reason.get("coding") else reason


def _is_no_problem(resource: Resource) -> bool:
    return resource.get("resourceType") == "Condition" and bool(_NO_PROBLEM.search(_words(resource)))


def _words(condition: Resource) -> str:
    code = condition.get("code") or {}
    return " ".join([str(code.get("text", "")), *(str(coding.get("display", "")) for coding in code.get("coding", []))])


def _listed_once(resources: Sequence[Resource]) -> Iterator[Resource]:
    """Of the same active problem the first entry only: generators add it again at every visit."""
    seen = set()
    for resource in resources:
        if resource.get("resourceType") == "Condition" and _status(resource) == "active":
            if _words(resource) in seen:
                continue
            seen.add(_words(resource))
        yield resource


def _status(condition: Resource) -> str:
    codings = (condition.get("clinicalStatus") or {}).get("coding") or [{}]
    return str(codings[0].get("code", ""))


def _treated(resources: Sequence[Resource]) -> Iterator[Resource]:
    """Chronic diseases that outpatient visits are for and the problem list lacks, from the first such visit on."""
    listed = {c.get("code") for r in resources if r.get("resourceType") == "Condition" for c in _codings(r.get("code"))}
    visits = sorted((r for r in resources if _class_of(r) == "AMB"), key=lambda visit: str(visit["period"]["start"]))
    for visit in visits:
        for coding in (c for reason in visit.get("reasonCode", ()) for c in _codings(reason)):
            code = str(coding.get("code", ""))
            if coding.get("system") != _ICD or not _CHRONIC.match(code) or code in listed:
                continue
            listed.add(code)
            yield {
                "resourceType": "Condition",
                "id": f"{visit['id']}-{code.replace('.', '-').lower()}",
                "clinicalStatus": {"coding": [{"system": _CLINICAL, "code": "active"}]},
                "code": {"coding": [coding], "text": coding.get("display", code)},
                "subject": visit["subject"],
                "encounter": {"reference": f"Encounter/{visit['id']}"},
                "onsetDateTime": visit["period"]["start"],
                "recordedDate": visit["period"]["start"],
            }


def _codings(concept: Any) -> list[dict[str, Any]]:
    return list((concept or {}).get("coding") or ())
