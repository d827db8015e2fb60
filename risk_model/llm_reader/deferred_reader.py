"""What a language model says without waiting for one: what it has said is used, what it has not is asked for.

    DeferredNoteReader("smollm2", fingerprint, rules, readings).read(notes)      # the rules read the others now
    DeferredOpinions(fingerprint, task, answers).read(notes)                     # of a first stage: unknown until then

Nothing here calls a model, so nothing here can be slow, fail or hang because of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from fhir_mapping import Note
from knowledge_index import Evidence
from risk_model.core.values import NoteFindings
from risk_model.llm_reader.note_reader import reading_key
from risk_model.notes.reading import NoteReading, read_each, within_bounds
from risk_model.notes.rule_reader import RuleNoteReader

Wanted = TypeVar("Wanted", contravariant=True)
Given = TypeVar("Given", covariant=True)


class AnswerStore(Protocol[Wanted, Given]):
    """Where answers are kept and wanted ones are asked for. Neither raises, and neither takes long."""

    def get(self, keys: Sequence[str]) -> Mapping[str, Given]: ...

    def ask(self, wanted: Mapping[str, Wanted]) -> None: ...


Readings = AnswerStore[Note, NoteReading]


class DeferredNoteReader:
    """DeferredNoteReader(name, fingerprint, rules, readings).read(notes) -> NoteFindings, at once"""

    def __init__(self, model: str, fingerprint: str, rules: RuleNoteReader, readings: Readings) -> None:
        self.name = f"language:{model}"
        self._fingerprint = fingerprint
        self._rules = rules
        self._readings = readings

    def read(
        self, notes: Sequence[Note], evidence: Sequence[Evidence] = (), *, deadline: float | None = None
    ) -> NoteFindings:
        """`waiting` counts the notes that the model has yet to read; they are asked for."""
        keyed = {reading_key(self._fingerprint, cut): cut for _, cut in within_bounds(notes)}
        known = self._readings.get(list(keyed))
        wanted = {key: note for key, note in keyed.items() if key not in known}
        if wanted:
            self._readings.ask(wanted)

        def read(note: Note) -> NoteReading:
            found = known.get(reading_key(self._fingerprint, note))
            return (
                replace(self._rules.read_note(note, deadline), waiting=True) if found is None else found.of(note.source)
            )

        return read_each(self.name, notes, read, self._rules.embedding, deadline=deadline)
