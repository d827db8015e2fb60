"""Cohort folders: patients from FHIR or MEDS, labelled, split and hashed."""

from risk_model.cohorts.builder import CohortOptions, build_cohort
from risk_model.cohorts.fhir_source import FhirFolder
from risk_model.cohorts.labelled_cohort import TASK
from risk_model.cohorts.meds_source import MedsDataset
from risk_model.cohorts.splits import ByHash, ByTime, SplitPlan

__all__ = [
    "TASK",
    "ByHash",
    "ByTime",
    "CohortOptions",
    "FhirFolder",
    "MedsDataset",
    "SplitPlan",
    "build_cohort",
]
