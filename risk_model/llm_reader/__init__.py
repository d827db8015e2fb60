"""Note reading by a language model: every quote found in the note, answers kept between runs."""

from risk_model.llm_reader.deferred_reader import DeferredNoteReader
from risk_model.llm_reader.note_reader import LanguageNoteReader
from risk_model.llm_reader.readings_file import ReadingsFile
from risk_model.llm_reader.serialization import (
    note_from_json,
    note_to_json,
    question_from_json,
    question_to_json,
    reading_from_json,
    reading_to_json,
)

__all__ = [
    "DeferredNoteReader",
    "LanguageNoteReader",
    "ReadingsFile",
    "note_from_json",
    "note_to_json",
    "question_from_json",
    "question_to_json",
    "reading_from_json",
    "reading_to_json",
]
