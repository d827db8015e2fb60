"""PatientRecord and Evidence in, RiskEstimate out."""

from risk_model.errors import ModelArtifactError, RiskModelError, TrainingError, UnknownTaskError
from risk_model.model import RiskModel
from risk_model.model_card import ModelCard, model_card
from risk_model.pipeline import Pipeline
from risk_model.reader import NoteReader, RuleNoteReader
from risk_model.risk_assessment import risk_assessment
from risk_model.scores import comparators, hospital_score, lace, news2, qsofa
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
    "Counterfactual",
    "DataGap",
    "Driver",
    "Experiencer",
    "Finding",
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
    "Temporality",
    "TrainingError",
    "UnknownTaskError",
    "comparators",
    "hospital_score",
    "lace",
    "model_card",
    "news2",
    "qsofa",
    "risk_assessment",
]
