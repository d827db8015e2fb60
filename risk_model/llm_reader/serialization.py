"""Notes and questions that wait, and readings that are done, as plain JSON: what is kept (encrypted) between a hook and
a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from fhir_mapping import Note, Section
from knowledge_index import Experiencer, Polarity, Temporality
from risk_model.core.tasks import Task
from risk_model.core.values import Finding, NoteValue
from risk_model.notes.reading import NoteReading
from risk_model.prompts.knowledge import Knowledge
from risk_model.prompts.note_prompt import Window
from risk_model.prompts.risk_prompt import RiskPrompt


def note_to_json(note: Note) -> dict[str, Any]:
    """What a reader needs of a note: its words, sections and kind; neither id, time nor source."""
    sections = [[section.name, section.title, section.start, section.end] for section in note.sections]
    return {"text": note.text, "kind": note.kind, "sections": sections}


def note_from_json(raw: Mapping[str, Any]) -> Note:
    sections = tuple(Section(name, title, start, end) for name, title, start, end in raw["sections"])
    return Note("", "", None, raw["text"], sections, "", "read", kind=raw["kind"])


def question_to_json(prompt: RiskPrompt) -> dict[str, Any]:
    """A window as it is shown and the task it is asked about; not which note it is of."""
    window = asdict(replace(prompt.window, note_source=""))
    return {"window": window, "task": prompt.task if isinstance(prompt.task, str) else prompt.task.to_json()}


def question_from_json(raw: Mapping[str, Any]) -> RiskPrompt:
    """Raises KeyError or TypeError for what another version wrote."""
    given = raw["window"]
    lists = {"sections": tuple(given["sections"]), "knowledge": Knowledge.from_json(given["knowledge"])}
    window = Window(**given | lists)
    return RiskPrompt(window, raw["task"] if isinstance(raw["task"], str) else Task.from_json(raw["task"]))


def reading_to_json(reading: NoteReading) -> dict[str, Any]:
    return asdict(reading)


def reading_from_json(raw: Mapping[str, Any]) -> NoteReading:
    """Raises KeyError, TypeError or ValueError for what another version wrote."""
    findings = tuple(Finding(**item | _context(item)) for item in raw["findings"])
    values = tuple(NoteValue(**item | _context(item) | {"time": _time(item["time"])}) for item in raw["values"])
    whole = NoteReading(**raw)
    return replace(whole, findings=findings, values=values, cited=tuple(raw["cited"]))


def _context(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "polarity": Polarity(item["polarity"]),
        "temporality": Temporality(item["temporality"]),
        "experiencer": Experiencer(item["experiencer"]),
    }


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
