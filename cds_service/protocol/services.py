"""The three services and their prefetch templates, as discovery lists them (CDS Hooks 3.0, "Discovery")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cds_hooks import ServiceDefinition
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D

SPECIFICATION_VERSION = "3.0.0-ballot"
HOOK_VERSION = "1.0"
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
class Service:
    """One CDS service; `tasks` are in the order of the card."""

    id: str
    hook: str
    title: str
    description: str
    tasks: tuple[str, ...]
    required_context: tuple[str, ...]

    @property
    def prefetch(self) -> Mapping[str, str]:
        """Key -> template."""
        if "encounterId" not in self.required_context:
            return _TEMPLATES
        return {"encounter": _ENCOUNTER, **_TEMPLATES}

    @property
    def definition(self) -> ServiceDefinition:
        """The service as the protocol knows it."""
        return ServiceDefinition(
            id=self.id,
            hook=self.hook,
            title=self.title,
            description=self.description,
            prefetch=self.prefetch,
            usage_requirements=_USAGE,
            version=SPECIFICATION_VERSION,
            hook_version=HOOK_VERSION,
            required_context=self.required_context,
        )

    def expected(self) -> Mapping[str, str]:
        """Key -> resource type its value must have."""
        return self.definition.expected()

    def to_json(self) -> dict[str, Any]:
        return self.definition.to_json()


_STAY = ("userId", "patientId", "encounterId")
SERVICES: Mapping[str, Service] = MappingProxyType(
    {
        service.id: service
        for service in (
            Service(
                "hospital-risk",
                "patient-view",
                "Hospital risk",
                "In-hospital mortality and 30-day readmission of the current stay, explained, with literature.",
                (IN_HOSPITAL_MORTALITY, READMISSION_30D),
                ("userId", "patientId"),
            ),
            Service(
                "in-hospital-mortality",
                "encounter-start",
                "In-hospital mortality",
                "Risk of dying in hospital, as of the first day of the stay, explained, with literature.",
                (IN_HOSPITAL_MORTALITY,),
                _STAY,
            ),
            Service(
                "readmission-30d",
                "encounter-discharge",
                "30-day readmission",
                "Risk of being admitted again within 30 days of discharge, explained, with literature.",
                (READMISSION_30D,),
                _STAY,
            ),
        )
    }
)
