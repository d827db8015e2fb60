"""Converts a record to events of the Medical Event Data Standard (MEDS 0.4,
https://medical-event-data-standard.github.io).

Observations are exported as charted (numbers, text and codes), also those no feature uses; a value that a feature uses
is in the same canonical unit. No event is later than the record's prediction time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir_mapping.core.times import moment
from fhir_mapping.core.values import Coding
from fhir_mapping.parsing.elements import Observation, Resource
from fhir_mapping.record.record_view import RecordView
from fhir_mapping.resources.measurements import meaning_of, observed_at
from fhir_mapping.resources.quantities import finite
from fhir_mapping.terminology.codes import ICD9CM, ICD10CM, LOINC, RXNORM, SNOMED, codings, text_of

_SYSTEMS = {LOINC: "LOINC", SNOMED: "SNOMED", ICD10CM: "ICD10CM", ICD9CM: "ICD9CM", RXNORM: "RxNorm"}
_DAY = 86_400
_USABLE = frozenset({"final", "amended", "corrected", "preliminary"})
_PLAIN = ("valueString", "valueBoolean", "valueDateTime", "valueTime", "valueInteger")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class MedsEvent:
    """One MEDS event of one subject; `time` (UTC) is None for static facts. `description` is that of the code."""

    time: datetime | None
    code: str
    numeric_value: float | None = None
    text_value: str | None = None
    description: str | None = None


def meds_events(record: RecordView) -> tuple[MedsEvent, ...]:
    """Returns all events of a record: static ones first, then in time order."""
    found = [
        *_static(record),
        *_encounters(record),
        *_observations(record),
        *_clinical(record),
        *_doses(record),
    ]
    found += [MedsEvent(n.time, f"NOTE//{_slug(n.type)}", None, n.text, n.type) for n in record.notes() if n.text]
    found.sort(key=lambda event: (event.time is not None, event.time or record.prediction_time, event.code))
    return tuple(dict.fromkeys(found))


def to_meds(record: RecordView) -> tuple[dict[str, Any], ...]:
    """Returns the events as rows for JSON: subject_id, time (ISO 8601), code, numeric_value, text_value."""
    return tuple(
        {
            "subject_id": record.subject_id,
            "time": None if event.time is None else event.time.isoformat(),
            "code": event.code,
            "numeric_value": event.numeric_value,
            "text_value": event.text_value,
        }
        for event in meds_events(record)
    )


def _static(record: RecordView) -> Iterator[MedsEvent]:
    if record.sex:
        yield MedsEvent(None, f"GENDER//{record.sex.upper()}", description="Administrative gender")
    birth = record.birth
    if birth is not None and (birth.latest - birth.earliest).total_seconds() < _DAY:
        yield MedsEvent(birth.earliest, "MEDS_BIRTH", description="Birth")
    if record.deceased:
        yield MedsEvent(record.deceased, "MEDS_DEATH", description="Death")


def _encounters(record: RecordView) -> Iterator[MedsEvent]:
    for stay in record.stays:
        name = f"ENCOUNTER//{stay.stay_class.upper()}"
        reasons = "; ".join(stay.reason_texts) or None
        yield MedsEvent(stay.start, f"{name}//START", None, reasons, f"Begin of an {stay.stay_class} encounter")
        if stay.end is not None:
            ended = f"End of an {stay.stay_class} encounter; the text is its discharge disposition"
            yield MedsEvent(stay.end, f"{name}//END", None, stay.discharge_disposition, ended)


def _clinical(record: RecordView) -> Iterator[MedsEvent]:
    for condition in record.conditions:
        when = condition.recorded or condition.onset
        for code in _names(condition.codings, "CONDITION"):
            yield MedsEvent(when, code, None, condition.text, condition.text)
    for medication in record.medications:
        for code in _names(medication.codings, "DRUG"):
            yield MedsEvent(medication.start, code, None, medication.text, medication.text)
    for procedure in record.procedures:
        for code in _names(procedure.codings, "PROCEDURE"):
            yield MedsEvent(procedure.performed, code, None, procedure.text, procedure.text)


def _observations(record: RecordView) -> Iterator[MedsEvent]:
    converted = {(item.source, item.concept): item for item in record.measurements}
    for source, resource in record.charted():
        at = observed_at(Observation.of(resource))
        status = resource.get("status")
        if not isinstance(status, str) or status not in _USABLE:
            continue
        components = resource.get("component")
        for part in (resource, *components) if isinstance(components, list) else (resource,):
            name = _code_of(part.get("code")) if isinstance(part, dict) else None
            if name is None:
                continue
            text = text_of(part["code"])
            concept = meaning_of(part["code"]).concept
            measured = None if concept is None else converted.get((source, concept.name))
            when = moment(at) if at is not None else None
            if measured is not None:
                yield MedsEvent(when, f"{name}//{measured.unit}", measured.value, None, text)
            else:
                yield from _charted_value(part, name, when, text)


def _charted_value(part: Resource, name: str, when: datetime | None, description: str) -> Iterator[MedsEvent]:
    """Yields a value as charted: a number with its unit, a coded answer, or text; a bound such as `<5` is text."""
    quantity = part.get("valueQuantity")
    if isinstance(quantity, dict):
        unit = quantity.get("code") or quantity.get("unit")
        value, bound = finite(quantity.get("value")), quantity.get("comparator")
        if value is not None and not bound:
            yield MedsEvent(when, f"{name}//{unit}" if unit else name, value, None, description)
        elif value is not None:
            yield MedsEvent(
                when, name, None, f"{bound or ''}{str(value).removesuffix('.0')} {unit or ''}".strip(), description
            )
        return
    answer = part.get("valueCodeableConcept")
    if isinstance(answer, dict):
        coded = _code_of(answer)
        yield MedsEvent(when, f"{name}//{coded}" if coded else name, None, text_of(answer) or None, description)
        return
    for element in _PLAIN:
        if element in part:
            number = finite(part[element]) if element == "valueInteger" else None
            yield MedsEvent(when, name, number, None if number is not None else str(part[element]), description)


def _doses(record: RecordView) -> Iterator[MedsEvent]:
    """Yields the doses given; the number is the dose, its unit is part of the code."""
    for dose in record.administrations:
        for code in _names(dose.codings, "DRUG"):
            name = f"ADMINISTERED//{code}//{dose.unit}" if dose.unit else f"ADMINISTERED//{code}"
            yield MedsEvent(dose.time, name, dose.dose, dose.text, f"{dose.text}, given")


def _names(found: tuple[Coding, ...], kind: str) -> list[str]:
    """Returns `VOCABULARY//code` for every coding of a standard vocabulary; else the local codes under `kind`."""
    names = [f"{_SYSTEMS[c.system]}//{c.code}" for c in found if c.system in _SYSTEMS]
    return names or [f"{kind}//{c.code}" for c in found] or [f"{kind}//UNCODED"]


def _code_of(concept: Any) -> str | None:
    """Returns one MEDS code for a concept: the first standard vocabulary, else a local code, else the text."""
    found = codings(concept)
    if found:
        return _names(found, "OBSERVATION")[0]
    text = text_of(concept)
    return f"OBSERVATION//{_slug(text)}" if text else None


def _slug(text: str) -> str:
    return _SPACE.sub("_", text.strip().lower())
