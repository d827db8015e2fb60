"""The document of `riskcards map --to findings`: what the notes of one patient say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from fhir_mapping import Note, Refusal
from risk_model.notes import ReadingBounds, RuleNoteReader, findings_json

_ALL = ReadingBounds(notes=10_000, characters=512 * 2**20)
"""Commands read every note: no clinician waits."""


_NOTES_NOT_READ = frozenset({"more-notes-than-read", "note-without-time"})


class FindingsReader:
    """FindingsReader().document(record.notes()) -> the document of `--to findings`; the vocabulary is opened once."""

    @cached_property
    def _reader(self) -> RuleNoteReader:
        from knowledge_index import KnowledgeIndex

        return RuleNoteReader(KnowledgeIndex.open_starter(), embed=False, bounds=_ALL)

    def document(self, notes: Sequence[Note], refused: Sequence[Refusal] = ()) -> dict[str, Any]:
        """Returns findings and values of the notes, and the notes that were not read with the reason; `refused` are
        those of the record."""
        document = findings_json(self._reader.read(notes))
        document["not_read"] += [
            {"note": refusal.source, "reason": refusal.reason, "part": False}
            for refusal in refused
            if refusal.reason in _NOTES_NOT_READ
        ]
        unreadable = [note for note in notes if note.status != "read"]
        document["not_read"] += [
            {"note": note.source, "reason": note.reason or note.status, "part": False} for note in unreadable
        ]
        return document
