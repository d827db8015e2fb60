"""Converts a record to events of the Medical Event Data Standard (MEDS 0.4,
https://medical-event-data-standard.github.io).

Observations are exported as charted (numbers, text and codes), also those no feature uses; a value that a feature uses
is in the same canonical unit. No event is later than the record's prediction time.

A diagnosis, drug or procedure without a date of its own gets the time from which the record would show it: the end of
its encounter, or, while that has none, the prediction time of the export. A null time means known at any time.

Further columns hold what MEDS has no column for, so that such a dataset reads back unchanged: the resource, its
Encounter, the end of a course or infusion, or by when it had ended, the status of an order or statement, the order of
a dose, and when a result was issued: before then nobody knew it. An Encounter gives `ENCOUNTER//CLASS//START` and
`//END` (its text is the discharge disposition; without a time the end is unknown), `ENCOUNTER//ICU//START` when
intensive care began, `ENCOUNTER//PART_OF`, `ADMISSION_TYPE//...` and `ADMISSION_SOURCE//...`. A birth or death with a
date that is less than a time has the date, as recorded, as its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fhir_mapping.core.times import moment, parse_instant
from fhir_mapping.core.values import Coding, Condition, Instant, Medication, Procedure, StayClass
from fhir_mapping.parsing.elements import Observation, Resource
from fhir_mapping.record.record_view import RecordView
from fhir_mapping.resources.admissions import admission_source, disposition
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
    resource: str | None = None
    """Key of the resource, such as `Condition/c1`; several codings of one resource are several events."""
    encounter: str | None = None
    """Key of its Encounter."""
    end: datetime | None = None
    status: str | None = None
    """Status of an order, a statement, or an Observation that is not final, as recorded."""
    order: str | None = None
    """Key of the MedicationRequest that a dose carries out."""
    system: str | None = None
    """Code system of a local code; the others are named in the code."""
    issued: datetime | None = None
    """When the result of an Observation was available, where it says so."""


def meds_events(record: RecordView) -> tuple[MedsEvent, ...]:
    """Returns all events of a record: static ones first, then in time order."""
    found = [
        *_static(record),
        *_encounters(record),
        *_observations(record),
        *_clinical(record),
        *_doses(record),
    ]
    at = record.prediction_time
    notes = (note for note in record.notes() if note.text)
    found += [MedsEvent(n.time or at, f"NOTE//{_slug(n.type)}", None, n.text, n.type, n.source) for n in notes]
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
    birth, death = record.birth, record.demographics.death
    if birth is not None:
        precise = (birth.latest - birth.earliest).total_seconds() < _DAY
        yield MedsEvent(birth.earliest, "MEDS_BIRTH", None, None if precise else _date(birth), "Birth")
    if death is not None:
        text = None if death.earliest == death.latest else _date(death)
        yield MedsEvent(_death_time(record, death), "MEDS_DEATH", None, text, "Death")
    elif record.demographics.perhaps_deceased:
        yield MedsEvent(None, "MEDS_DEATH", description="Death, without a usable date")


def _date(instant: Instant) -> str:
    """Returns the FHIR date of an imprecise time: `2024`, `2024-05` or `2024-05-01`."""
    first, last = instant.earliest, instant.latest
    parts = 1 if first.month != last.month else 2 if first.day != last.day else 3
    return first.date().isoformat()[: (4, 7, 10)[parts - 1]]


def _death_time(record: RecordView, death: Instant) -> datetime:
    """Returns the time of death; of a date, the end of the stay that ended then if the patient did not leave alive."""
    if death.earliest == death.latest:
        return death.latest
    for stay in record.stays:
        ends_then = stay.end is not None and death.earliest <= stay.end <= death.latest
        if ends_then and stay.stay_class is StayClass.INPATIENT and disposition(stay) in {"died", None}:
            return stay.end or death.latest
    return min(death.latest.replace(microsecond=0), record.prediction_time)


def _encounters(record: RecordView) -> Iterator[MedsEvent]:
    for stay in record.encounters:
        name, key = f"ENCOUNTER//{stay.stay_class.upper()}", stay.source

        def event(time: datetime | None, code: str, text: str | None, description: str, key: str = key) -> MedsEvent:
            return MedsEvent(time, code, None, text, description, key, key)

        reasons = "; ".join(stay.reason_texts) or None
        yield event(stay.start, f"{name}//START", reasons, f"Begin of an {stay.stay_class} encounter")
        if stay.end is not None or stay.length_unknown is not None:
            ended = f"End of an {stay.stay_class} encounter; the text is where the patient went"
            yield event(stay.end, f"{name}//END", stay.destination or stay.discharge_disposition, ended)
        if stay.intensive_care_from is not None:
            yield event(stay.intensive_care_from, "ENCOUNTER//ICU//START", None, "Begin of intensive care")
        if stay.part_of is not None:
            yield event(stay.start, "ENCOUNTER//PART_OF", stay.part_of, "The encounter this one is part of")
        if stay.acute is not None:
            kind = "EMERGENCY" if stay.acute else "ELECTIVE"
            yield event(stay.start, f"ADMISSION_TYPE//{kind}", None, "Admission type")
        if (source := admission_source(stay)) is not None:
            yield event(stay.start, f"ADMISSION_SOURCE//{source}", None, "Admission source")


def _clinical(record: RecordView) -> Iterator[MedsEvent]:
    for condition in record.conditions:
        when = condition.recorded or _known_from(record, condition.source, condition.onset)
        yield from _coded(condition, "CONDITION", when, condition.abated)
    for medication in record.medications:
        when = medication.start or _known_from(record, medication.source, None)
        over = medication.end or medication.ended_by
        yield from (replace(event, status=medication.status) for event in _coded(medication, "DRUG", when, over))
    for procedure in record.procedures:
        when = procedure.performed or _known_from(record, procedure.source, None)
        yield from _coded(procedure, "PROCEDURE", when, None)


def _coded(
    item: Condition | Medication | Procedure, kind: str, when: datetime | None, end: datetime | None
) -> Iterator[MedsEvent]:
    for code, system in _names(item.codings, kind):
        yield MedsEvent(when, code, None, item.text, item.text, item.source, item.stay, end, system=system)


def _known_from(record: RecordView, source: str, onset: datetime | None) -> datetime:
    """Returns the time from which a resource without a date of its own was known: without an encounter its onset, else
    the prediction time, because MEDS takes an event without a time for known at birth."""
    known = record.known_from(source)
    if known is None or not known.present:
        return onset or record.prediction_time
    if onset is not None:
        return max(onset, known.begun or onset)
    return known.over if known.over is not None and known.over <= record.prediction_time else record.prediction_time


def _observations(record: RecordView) -> Iterator[MedsEvent]:
    converted = {(item.source, item.concept): item for item in record.measurements}
    for source, resource in record.charted():
        at = observed_at(Observation.of(resource))
        status = resource.get("status")
        if not isinstance(status, str) or status not in _USABLE:
            continue
        components = resource.get("component")
        for part in (resource, *components) if isinstance(components, list) else (resource,):
            coded = _code_of(part.get("code")) if isinstance(part, dict) else None
            if coded is None:
                continue
            name, system = coded
            text = text_of(part["code"])
            concept = meaning_of(part["code"]).concept
            measured = None if concept is None else converted.get((source, concept.name))
            when = moment(at) if at is not None else None
            found = (
                iter([MedsEvent(when, f"{name}//{measured.unit}", measured.value, None, text)])
                if measured is not None
                else _charted_value(part, name, when, text)
            )
            issued = parse_instant(resource.get("issued"))
            for event in found:
                yield replace(
                    event,
                    resource=source,
                    encounter=_encounter_of(resource),
                    system=system,
                    status=None if status == "final" else status,
                    issued=None if issued is None else moment(issued),
                )


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
        yield MedsEvent(when, f"{name}//{coded[0]}" if coded else name, None, text_of(answer) or None, description)
        return
    for element in _PLAIN:
        if element in part:
            number = finite(part[element]) if element == "valueInteger" else None
            yield MedsEvent(when, name, number, None if number is not None else str(part[element]), description)


def _doses(record: RecordView) -> Iterator[MedsEvent]:
    """Yields the doses given; the number is the dose, its unit is part of the code."""
    for dose in record.administrations:
        for code, system in _names(dose.codings, "DRUG"):
            yield MedsEvent(
                dose.time,
                f"ADMINISTERED//{code}//{dose.unit}" if dose.unit else f"ADMINISTERED//{code}",
                dose.dose,
                dose.text,
                f"{dose.text}, given",
                dose.source,
                dose.stay,
                dose.end,
                "in-progress" if dose.running else None,
                dose.order,
                system,
            )


def _encounter_of(resource: Resource) -> str | None:
    reference = resource.get("encounter") or resource.get("context")
    text = reference.get("reference") if isinstance(reference, dict) else None
    return text if isinstance(text, str) and text.startswith("Encounter/") else None


def _names(found: tuple[Coding, ...], kind: str) -> list[tuple[str, str | None]]:
    """Returns `VOCABULARY//code` for every coding of a standard vocabulary; else the local codes under `kind`, each
    with its system."""
    names: list[tuple[str, str | None]] = [
        (f"{_SYSTEMS[c.system]}//{c.code}", None) for c in found if c.system in _SYSTEMS
    ]
    return names or [(f"{kind}//{c.code}", c.system) for c in found] or [(f"{kind}//UNCODED", None)]


def _code_of(concept: Any) -> tuple[str, str | None] | None:
    """Returns one MEDS code for a concept: the first standard vocabulary, else a local code and its system, else the
    text."""
    found = codings(concept)
    if found:
        return _names(found, "OBSERVATION")[0]
    text = text_of(concept)
    return (f"OBSERVATION//{_slug(text)}", None) if text else None


def _slug(text: str) -> str:
    return _SPACE.sub("_", text.strip().lower())
