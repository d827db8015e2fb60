"""Reads notes as plain text from documents, compositions and attachments, with sections and copied passages."""

from fhir_mapping.notes.sections import find_sections
from fhir_mapping.notes.text_notes import text_note

__all__ = [
    "find_sections",
    "text_note",
]
