"""Risk estimates: PatientRecord and Evidence in, RiskEstimate out."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports
from knowledge_index import Experiencer, Polarity, Temporality
from risk_model.core.errors import (
    CohortError,
    ModelArtifactError,
    RiskModelError,
    TaskDefinitionError,
    TrainingError,
    UnknownTaskError,
)
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D, TASKS, Task
from risk_model.core.values import (
    Abnormality,
    Abstention,
    Agreement,
    Assessment,
    Counterfactual,
    DataGap,
    Driver,
    Finding,
    LevelPolicy,
    NoteFindings,
    RiskEstimate,
    ScoreResult,
)
from risk_model.models.estimator import RiskModel
from risk_model.notes.rule_reader import NoteReader, RuleNoteReader
from risk_model.pipeline.assess import Pipeline
from risk_model.pipeline.fhir_output import risk_assessment
from risk_model.scores.agreement import ScoreComparison, best_fitting, compare_with_score
from risk_model.scores.by_task import comparators, why_no_score
from risk_model.scores.comorbidity import charlson, elixhauser
from risk_model.scores.critical_care import saps2, sofa
from risk_model.scores.early_warning import mews, news2, qsofa
from risk_model.scores.readmission import hospital_score, lace

if TYPE_CHECKING:
    from risk_model.cohorts.labelled_cohort import LabelledCohort
    from risk_model.reports.model_cards import ModelCard, model_card

__all__ = [
    "IN_HOSPITAL_MORTALITY",
    "READMISSION_30D",
    "TASKS",
    "Abnormality",
    "Abstention",
    "Agreement",
    "Assessment",
    "CohortError",
    "Counterfactual",
    "DataGap",
    "Driver",
    "Experiencer",
    "Finding",
    "LabelledCohort",
    "LevelPolicy",
    "ModelArtifactError",
    "ModelCard",
    "NoteFindings",
    "NoteReader",
    "Pipeline",
    "Polarity",
    "RiskEstimate",
    "RiskModel",
    "RiskModelError",
    "RuleNoteReader",
    "ScoreComparison",
    "ScoreResult",
    "Task",
    "TaskDefinitionError",
    "Temporality",
    "TrainingError",
    "UnknownTaskError",
    "best_fitting",
    "charlson",
    "comparators",
    "compare_with_score",
    "elixhauser",
    "hospital_score",
    "lace",
    "mews",
    "model_card",
    "news2",
    "qsofa",
    "risk_assessment",
    "saps2",
    "sofa",
    "why_no_score",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "LabelledCohort": "risk_model.cohorts.labelled_cohort",
        "ModelCard": "risk_model.reports.model_cards",
        "model_card": "risk_model.reports.model_cards",
    },
)
