"""The suggestions of a card: draft FHIR R4 resources, built in or from a site's own file.

read_drafts(Path("suggestions.yaml")) -> {"readmission_30d": (Draft(...), ...), ...}

A clinician who accepts one gets a draft in the EHR, never an order: Task draft and proposal, ServiceRequest draft and
proposal, Appointment proposed (https://hl7.org/fhir/R4/task.html, servicerequest.html, appointment.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fhir_mapping import Coding, DefinitionError, PatientRecord
from fhir_mapping.parsing import Validator
from fhir_mapping.terminology import DefinitionField, check_fields, read_yaml
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, TASKS
from risk_model.pipeline import AI_LABEL

KINDS = ("Task", "ServiceRequest", "Appointment")
MAX_LABEL = 100
MAX_DRAFTS = 10
MAX_DAYS = 365
# Appointment.priority is a number as of iCalendar: 1 is the most urgent, 5 is normal.
_APPOINTMENT_PRIORITY = {"routine": 5, "urgent": 3, "asap": 2, "stat": 1}
_FIELDS = (
    DefinitionField("label", str),
    DefinitionField("kind", str, required=False, one_of=KINDS),
    DefinitionField("days", int, required=False),
    DefinitionField("code", dict, required=False),
    DefinitionField("text", str, required=False),
    DefinitionField("priority", str, required=False, one_of=tuple(_APPOINTMENT_PRIORITY)),
)
_CODE = (DefinitionField("system", str), DefinitionField("code", str), DefinitionField("display", str, required=False))


@dataclass(frozen=True, slots=True)
class DraftContext:
    """The subject and encounter references of a draft, and the time of the estimate in the hospital's time zone."""

    subject: str
    encounter: str | None
    moment: datetime

    @classmethod
    def of(cls, record: PatientRecord, zone: tzinfo = UTC) -> DraftContext:
        stay = record.current_stay
        # A stay without an id of its own cannot be referenced.
        encounter = stay.source if stay is not None and "#" not in stay.source else None
        return cls(f"Patient/{record.subject_id}", encounter, record.prediction_time.astimezone(zone))


@dataclass(frozen=True, slots=True)
class Draft:
    """One suggestion, due at the end of the day `days` after the estimate; `text` describes more than the label."""

    label: str
    kind: str = "Task"
    days: int = 0
    code: Coding | None = None
    text: str | None = None
    priority: str | None = None

    def resource(self, place: DraftContext) -> dict[str, Any]:
        """The resource a client creates when the suggestion is accepted."""
        build = {"Task": _task, "ServiceRequest": _service_request, "Appointment": _appointment}[self.kind]
        return {"resourceType": self.kind, "meta": dict(AI_LABEL), **build(self, place)}

    def due(self, place: DraftContext) -> str:
        """The last second of the day: what is due the second it is made would be late when it is read.

        >>> place = DraftContext("Patient/1", None, datetime(2026, 3, 1, 9, tzinfo=UTC))
        >>> Draft("Call", days=2).due(place)
        '2026-03-03T23:59:59+00:00'
        """
        day = place.moment.date() + timedelta(days=self.days)
        return datetime.combine(day, time(23, 59, 59), place.moment.tzinfo).isoformat()

    @property
    def concept(self) -> dict[str, Any]:
        """The code as a CodeableConcept, with its text."""
        concept: dict[str, Any] = {"text": self.text or self.label}
        if self.code is None:
            return concept
        coding = {"system": self.code.system, "code": self.code.code}
        return {"coding": [coding | ({"display": self.code.display} if self.code.display else {})], **concept}


def _task(draft: Draft, place: DraftContext) -> dict[str, Any]:
    task: dict[str, Any] = {
        "status": "draft",
        "intent": "proposal",
        "description": draft.text or draft.label,
        "for": {"reference": place.subject},
        "restriction": {"period": {"end": draft.due(place)}},
    }
    if draft.code is not None:
        task["code"] = draft.concept
    return task | _priority(draft) | _encounter(place)


def _service_request(draft: Draft, place: DraftContext) -> dict[str, Any]:
    return {
        "status": "draft",
        "intent": "proposal",
        "code": draft.concept,
        "subject": {"reference": place.subject},
        "occurrencePeriod": {"start": place.moment.isoformat(), "end": draft.due(place)},
        "authoredOn": place.moment.isoformat(),
        **_priority(draft),
        **_encounter(place),
    }


def _appointment(draft: Draft, place: DraftContext) -> dict[str, Any]:
    """Without a start: only a proposed appointment may lack it (app-3). The time is chosen when it is booked."""
    appointment: dict[str, Any] = {
        "status": "proposed",
        "description": draft.text or draft.label,
        "requestedPeriod": [{"start": place.moment.isoformat(), "end": draft.due(place)}],
        "participant": [{"actor": {"reference": place.subject}, "status": "needs-action"}],
    }
    if draft.code is not None:
        appointment["serviceType"] = [draft.concept]
    if draft.priority is not None:
        appointment["priority"] = _APPOINTMENT_PRIORITY[draft.priority]
    if place.encounter is not None:
        # R4's Appointment has no encounter element.
        appointment["supportingInformation"] = [{"reference": place.encounter}]
    return appointment


def _priority(draft: Draft) -> dict[str, Any]:
    return {} if draft.priority is None else {"priority": draft.priority}


def _encounter(place: DraftContext) -> dict[str, Any]:
    return {} if place.encounter is None else {"encounter": {"reference": place.encounter}}


Drafts = Mapping[str, tuple[Draft, ...]]
"""Task -> the suggestions shown when its risk is over the threshold."""
BUILT_IN: Drafts = MappingProxyType(
    {
        READMISSION_30D: (Draft("Book a follow-up visit within 7 days of discharge", days=7),),
        IN_HOSPITAL_MORTALITY: (Draft("Review the plan of care with a senior clinician today"),),
    }
)
URGENT_REVIEW = Draft("Request urgent review by a team with critical-care competencies", priority="urgent")
"""Offered instead at a NEWS2 of 7 or more, as the Royal College of Physicians asks (NEWS2, 2017, chart 4)."""


def read_drafts(path: Path) -> Drafts:
    """Returns a site's drafts (YAML or JSON). Other tasks keep the built-in ones; an empty list has none.

    Every draft is built once and validated as FHIR R4. Raises DefinitionError naming file, task and field.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DefinitionError(path.name, "", f"cannot be read ({error.__class__.__name__})") from None
    document = read_yaml(raw, path.name)
    check_fields(document, [DefinitionField(task, list, required=False) for task in TASKS], path.name, "")
    own = {task: _of_task(items, path.name, task) for task, items in document.items()}
    return MappingProxyType({**BUILT_IN, **own})


def _of_task(items: list[Any], file: str, task: str) -> tuple[Draft, ...]:
    if len(items) > MAX_DRAFTS:
        raise DefinitionError(file, task, f"{len(items)} drafts; at most {MAX_DRAFTS} are allowed")
    return tuple(_draft(item, file, f"{task}[{number}]") for number, item in enumerate(items))


def _draft(item: Any, file: str, place: str) -> Draft:
    check_fields(item, _FIELDS, file, place)
    code = item.get("code")
    if code is not None:
        check_fields(code, _CODE, file, f"{place}.code")
    for name in ("label", "text"):
        if name in item and not item[name].strip():
            raise DefinitionError(file, f"{place}.{name}", "is empty")
    if len(item["label"]) > MAX_LABEL:
        raise DefinitionError(file, f"{place}.label", f"longer than {MAX_LABEL} characters")
    if not 0 <= item.get("days", 0) <= MAX_DAYS:
        raise DefinitionError(file, f"{place}.days", f"expected 0 to {MAX_DAYS}")
    draft = Draft(
        label=item["label"].strip(),
        kind=item.get("kind", "Task"),
        days=item.get("days", 0),
        code=None if code is None else Coding(code["system"], code["code"], code.get("display")),
        text=item.get("text"),
        priority=item.get("priority"),
    )
    example = draft.resource(DraftContext("Patient/example", "Encounter/example", datetime(2026, 1, 1, tzinfo=UTC)))
    for fault in Validator("R4").faults(example):
        raise DefinitionError(file, place, f"not a valid FHIR R4 {draft.kind}: {fault.path}: {fault.message}")
    return draft
