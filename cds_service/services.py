"""The three services and their prefetch templates, as discovery lists them (CDS Hooks 3.0, "Discovery")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cds_hooks import ServiceDefinition
from cds_hooks.hook_request import HOOK_CONTEXT
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D

SPECIFICATION_VERSION = "3.0.0-ballot"
_USAGE = (
    "Reads FHIR R4. All it needs can come by prefetch; with fhirAuthorization it fetches "
    "what is missing from servers it is configured to trust."
)
# Required for every answer; if they neither came nor could be fetched, the answer is 412.
REQUIRED = ("patient", "encounters")
_ENCOUNTER = "Encounter/{{context.encounterId}}"
_TEMPLATES = {
    "patient": "Patient/{{context.patientId}}",
    "encounters": "Encounter?patient={{context.patientId}}&_sort=-date&_count=1000",
    "conditions": "Condition?patient={{context.patientId}}&_count=500",
    "vitals": "Observation?patient={{context.patientId}}&category=vital-signs&_sort=-date&_count=1000",
    "labs": "Observation?patient={{context.patientId}}&category=laboratory&_sort=-date&_count=1000",
    "surveys": "Observation?patient={{context.patientId}}&category=survey&_sort=-date&_count=200",
    "medications": "MedicationRequest?patient={{context.patientId}}&_count=500",
    "procedures": "Procedure?patient={{context.patientId}}&_sort=-date&_count=500",
    "documents": "DocumentReference?patient={{context.patientId}}&_sort=-date&_count=50",
    "compositions": "Composition?patient={{context.patientId}}&_sort=-date&_count=50",
}


@dataclass(frozen=True, slots=True)
class Service(ServiceDefinition):
    """One CDS service; `tasks` are in the order of the card."""

    tasks: tuple[str, ...] = ()


def _service(hook: str, id: str, title: str, description: str, tasks: tuple[str, ...]) -> Service:
    encounter = {"encounter": _ENCOUNTER} if "encounterId" in HOOK_CONTEXT[hook] else {}
    return Service(
        id=id,
        hook=hook,
        title=title,
        description=description,
        prefetch=MappingProxyType(encounter | _TEMPLATES),
        usage_requirements=_USAGE,
        version=SPECIFICATION_VERSION,
        tasks=tasks,
    )


SERVICES: Mapping[str, Service] = MappingProxyType(
    {
        service.id: service
        for service in (
            _service(
                "patient-view",
                "hospital-risk",
                "Hospital risk",
                "In-hospital mortality and 30-day readmission of the current stay, explained, with literature.",
                (IN_HOSPITAL_MORTALITY, READMISSION_30D),
            ),
            _service(
                "encounter-start",
                "in-hospital-mortality",
                "In-hospital mortality",
                "Risk of dying in hospital, as of the first day of the stay, explained, with literature.",
                (IN_HOSPITAL_MORTALITY,),
            ),
            _service(
                "encounter-discharge",
                "readmission-30d",
                "30-day readmission",
                "Risk of being admitted again within 30 days of discharge, explained, with literature.",
                (READMISSION_30D,),
            ),
        )
    }
)
