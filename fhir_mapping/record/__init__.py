"""PatientRecord, and the features, problems, MEDS events and encoder texts computed from it."""

from fhir_mapping.record.cutoff import known_resources
from fhir_mapping.record.features import BEFORE_STAY, WITHOUT_STAY
from fhir_mapping.record.meds import MedsEvent, meds_events
from fhir_mapping.record.problem_list import (
    active_groups,
    comorbidity_groups,
    current_problems,
    is_in_hospice,
    is_pregnant,
)
from fhir_mapping.record.rewriting import Rewriter, rewrite
from fhir_mapping.record.serialization import (
    ADULT,
    CHARACTERS_PER_TOKEN,
    CURRENT_TIME,
    LAST_VALUES,
    days_before,
    days_in_words,
    recent_values,
)

__all__ = [
    "ADULT",
    "BEFORE_STAY",
    "CHARACTERS_PER_TOKEN",
    "CURRENT_TIME",
    "LAST_VALUES",
    "WITHOUT_STAY",
    "MedsEvent",
    "Rewriter",
    "active_groups",
    "comorbidity_groups",
    "current_problems",
    "days_before",
    "days_in_words",
    "is_in_hospice",
    "is_pregnant",
    "known_resources",
    "meds_events",
    "recent_values",
    "rewrite",
]
