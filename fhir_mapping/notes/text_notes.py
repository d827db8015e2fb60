"""A plain text file as a note."""

from __future__ import annotations

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.core.values import Note
from fhir_mapping.notes.formats.converted import UnreadableError
from fhir_mapping.notes.formats.plain import decode_in_place
from fhir_mapping.notes.sections import find_sections


def text_note(raw: bytes, source: str) -> Note:
    """Returns a text file as one note without a date; offsets into it are offsets into the file's text.

    Raises InvalidInputError if it is not text.
    """
    try:
        text = decode_in_place(raw)
    except UnreadableError:
        raise InvalidInputError(f"{source}: not a text file") from None
    return Note(source, "Note", None, text, find_sections(text), source, "read", original_format="text/plain")
