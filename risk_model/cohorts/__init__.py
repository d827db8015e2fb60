"""Cohort folders: patients from FHIR or MEDS, labelled, split and hashed."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.cohorts.builder import CohortOptions, build_cohort
    from risk_model.cohorts.fhir_source import FhirFolder, FhirPart, PatientData
    from risk_model.cohorts.labelled_cohort import TASK
    from risk_model.cohorts.meds_source import MedsDataset
    from risk_model.cohorts.splits import ByHash, ByTime, SplitPlan

__all__ = [
    "TASK",
    "ByHash",
    "ByTime",
    "CohortOptions",
    "FhirFolder",
    "FhirPart",
    "MedsDataset",
    "PatientData",
    "SplitPlan",
    "build_cohort",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "ByHash": "risk_model.cohorts.splits",
        "ByTime": "risk_model.cohorts.splits",
        "CohortOptions": "risk_model.cohorts.builder",
        "FhirFolder": "risk_model.cohorts.fhir_source",
        "FhirPart": "risk_model.cohorts.fhir_source",
        "MedsDataset": "risk_model.cohorts.meds_source",
        "PatientData": "risk_model.cohorts.fhir_source",
        "SplitPlan": "risk_model.cohorts.splits",
        "TASK": "risk_model.cohorts.labelled_cohort",
        "build_cohort": "risk_model.cohorts.builder",
    },
)
