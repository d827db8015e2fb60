"""The first stage of a model: note findings, reasons, opinions and vectors as columns of stage 2."""

from risk_model.first_stage.deferred_opinions import DeferredOpinions
from risk_model.first_stage.fusion import RECORDS
from risk_model.first_stage.language_stage import AskedModel
from risk_model.first_stage.note_stage import NoteRegression, StageToFit
from risk_model.first_stage.patient_opinions import ImmediateOpinions, ask_about_patients, ask_model

__all__ = [
    "RECORDS",
    "AskedModel",
    "DeferredOpinions",
    "ImmediateOpinions",
    "NoteRegression",
    "StageToFit",
    "ask_about_patients",
    "ask_model",
]
