"""Reads notes as plain text from documents, compositions and attachments, with sections and copied passages."""

from fhir_mapping.notes.text_notes import text_note

__all__ = [
    "text_note",
]
