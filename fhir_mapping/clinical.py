"""Condition, medication and Procedure resources to frozen values, as known at `prediction_time`.

FHIR R4 Condition, MedicationRequest, MedicationStatement, Procedure (https://hl7.org/fhir/R4/resourcelist.html).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fhir_mapping.codes import codings, first_code, text_of
from fhir_mapping.reading import Resource
from fhir_mapping.references import Directory
from fhir_mapping.times import moment, parse_instant, reachable
from fhir_mapping.values import Condition, Instant, Medication, Procedure, Refusal

_INACTIVE = frozenset({"inactive", "remission", "resolved"})
_UNPROVEN = frozenset({"provisional", "differential", "unconfirmed"})
_NOT_ORDERS = frozenset({"proposal", "plan", "option"})
_MEDICATION_NEVER = frozenset({"entered-in-error", "cancelled", "draft", "not-taken"})
_MEDICATION_ENDED = frozenset({"stopped", "completed", "on-hold", "ended"})


def _time(resource: Resource, *names: str) -> Instant | None:
    """The first of the named elements that holds a time; a Period counts from its start."""
    for name in names:
        raw = resource.get(name)
        found = parse_instant(raw.get("start")) if isinstance(raw, dict) else parse_instant(raw)
        if found is not None:
            return found
    return None


def _later(prediction_time: datetime, *instants: Instant | None) -> bool:
    return any(instant is not None and not reachable(instant, prediction_time) for instant in instants)


def _begun_later(prediction_time: datetime, *instants: Instant | None) -> bool:
    """Onsets and order dates are often a bare day or year: such a day has begun once its first moment has passed."""
    return any(instant is not None and instant.earliest > prediction_time for instant in instants)


def _day(instant: Instant | None) -> datetime | None:
    return None if instant is None else moment(instant) if instant.zone_assumed else instant.earliest


def read_condition(
    resource: Resource, source: str, directory: Directory, prediction_time: datetime
) -> Condition | Refusal | None:
    """A problem or diagnosis, or why it is none. None when it was not known by then."""
    verification = first_code(resource.get("verificationStatus"))
    if verification in {"entered-in-error", "refuted"}:
        return Refusal(source, f"verification-{verification}")
    onset = _time(resource, "onsetDateTime", "onsetPeriod")
    recorded = _time(resource, "recordedDate", "assertedDate")
    if _begun_later(prediction_time, onset, recorded):
        return None
    text = text_of(resource.get("code"))
    if not text:
        return Refusal(source, "no-code")
    if verification in _UNPROVEN:
        return Refusal(source, f"verification-{verification}")
    abated = _time(resource, "abatementDateTime", "abatementPeriod")
    over = abated is not None and not _later(prediction_time, abated)
    clinical = first_code(resource.get("clinicalStatus"))
    # A status without a date is the status of today, not of then: it counts only when no abatement contradicts it.
    active = not over and not (clinical in _INACTIVE and abated is None)
    return Condition(
        source=source,
        codings=codings(resource.get("code")),
        text=text,
        onset=_day(onset),
        recorded=_day(recorded),
        abated=moment(abated) if over and abated is not None else None,
        active=active,
        stay=directory.key(resource.get("encounter")),
    )


def read_medication(
    resource: Resource, source: str, directory: Directory, prediction_time: datetime
) -> Medication | Refusal | None:
    """A MedicationRequest or MedicationStatement, or why it is not used. None when it was not known by then."""
    status = resource.get("status")
    if not isinstance(status, str) or status in _MEDICATION_NEVER:
        return Refusal(source, f"status-{status}" if isinstance(status, str) else "no-status")
    if resource.get("doNotPerform") is True:
        return Refusal(source, "do-not-perform")
    if resource.get("intent") in _NOT_ORDERS:
        return Refusal(source, f"intent-{resource['intent']}")
    start = _time(resource, "authoredOn", "effectiveDateTime", "effectivePeriod", "dateAsserted")
    if _begun_later(prediction_time, start):
        return None
    concept = _drug(resource, directory)
    text = text_of(concept)
    if not text:
        return Refusal(source, "no-code")
    period = resource.get("effectivePeriod")
    end = parse_instant(period.get("end")) if isinstance(period, dict) else None
    over = end is not None and not _later(prediction_time, end)
    return Medication(
        source=source,
        codings=codings(concept),
        text=text,
        start=_day(start),
        end=moment(end) if over and end is not None else None,
        active=status not in _MEDICATION_ENDED and not over,
        stay=directory.key(resource.get("encounter") or resource.get("context")),
    )


def _drug(resource: Resource, directory: Directory) -> Any:
    """The CodeableConcept of the drug: inline (R4, R5), or in the Medication a reference leads to."""
    inline = resource.get("medicationCodeableConcept")
    either = resource.get("medication")
    if inline is None and isinstance(either, dict):
        inline = either.get("concept")
    if inline is not None:
        return inline
    reference = resource.get("medicationReference") or (either.get("reference") if isinstance(either, dict) else None)
    medication = directory.resolve(reference, resource)
    if medication is not None:
        return medication.get("code")
    display = reference.get("display") if isinstance(reference, dict) else None
    return {"text": display} if isinstance(display, str) else None


def read_procedure(
    resource: Resource, source: str, directory: Directory, prediction_time: datetime
) -> Procedure | Refusal | None:
    """A procedure that was done, or why it is not used. None when it was not begun by then."""
    status = resource.get("status")
    if status not in {"completed", "in-progress", "stopped", "unknown"}:
        return Refusal(source, f"status-{status}" if isinstance(status, str) else "no-status")
    performed = _time(resource, "performedDateTime", "performedPeriod", "occurrenceDateTime", "occurrencePeriod")
    if _begun_later(prediction_time, performed):
        return None
    text = text_of(resource.get("code"))
    if not text:
        return Refusal(source, "no-code")
    stay = directory.key(resource.get("encounter") or resource.get("context"))
    return Procedure(source, codings(resource.get("code")), text, _day(performed), stay)
