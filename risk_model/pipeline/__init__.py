"""One patient and one task from record to Assessment, and the Assessment as FHIR."""

from risk_model.pipeline.ai_transparency import (
    AI_LABEL,
    DEVICE,
    MODEL_CARD,
    ai_device,
    ai_provenance,
    model_card_document,
)
from risk_model.pipeline.assess import NoteReaderWrapper, OpinionSourceFactory

__all__ = [
    "AI_LABEL",
    "DEVICE",
    "MODEL_CARD",
    "NoteReaderWrapper",
    "OpinionSourceFactory",
    "ai_device",
    "ai_provenance",
    "model_card_document",
]
