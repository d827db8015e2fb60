"""PatientRecord and Evidence in, RiskEstimate out."""

from risk_model.cohort import LabelledCohort
from risk_model.errors import (
    CohortError,
    ModelArtifactError,
    RiskModelError,
    TaskDefinitionError,
    TrainingError,
    UnknownTaskError,
)
from risk_model.model import RiskModel
from risk_model.model_card import ModelCard, model_card
from risk_model.pipeline import Pipeline
from risk_model.reader import NoteReader, RuleNoteReader
from risk_model.risk_assessment import risk_assessment
from risk_model.scores import (
    charlson,
    comparators,
    elixhauser,
    hospital_score,
    lace,
    mews,
    news2,
    qsofa,
    saps2,
    sofa,
)
from risk_model.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D, TASKS, Task
from risk_model.values import (
    Abstention,
    Assessment,
    Counterfactual,
    DataGap,
    Driver,
    Experiencer,
    Finding,
    NoteFindings,
    Polarity,
    RiskEstimate,
    ScoreResult,
    Temporality,
)

__all__ = [
    "IN_HOSPITAL_MORTALITY",
    "READMISSION_30D",
    "TASKS",
    "Abstention",
    "Assessment",
    "CohortError",
    "Counterfactual",
    "DataGap",
    "Driver",
    "Experiencer",
    "Finding",
    "LabelledCohort",
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
    "ScoreResult",
    "Task",
    "TaskDefinitionError",
    "Temporality",
    "TrainingError",
    "UnknownTaskError",
    "charlson",
    "comparators",
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
]
