"""The simulator's hook requests, with prefetch filled from the patient's chart."""

from __future__ import annotations

from typing import Any

from cds_hooks import HookError
from cds_service.demo.ward.patients import DemoPatient
from cds_service.services import Service

USER = "Practitioner/demo-clinician"


def hook_request(patient: DemoPatient, service: Service) -> dict[str, Any]:
    """Returns the body an EHR would POST. Raises HookError 412 if the hook needs a stay and there is none."""
    context: dict[str, str | None] = {"userId": USER, "patientId": patient.id}
    if patient.stay is not None:
        context["encounterId"] = patient.stay
    if "encounterId" in service.context_fields and patient.stay is None:
        raise HookError(
            412, "not-found", "this patient has no inpatient stay to admit or discharge: open the chart instead"
        )
    return service.request_body(context, service.fill_prefetch(context, patient.chart.query))
