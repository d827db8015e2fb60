"""One patient and one task from record to Assessment, and the Assessment as FHIR."""

from risk_model.pipeline.assess import NoteReaderWrapper, OpinionSourceFactory

__all__ = [
    "NoteReaderWrapper",
    "OpinionSourceFactory",
]
