"""The rule reader: what notes state, with polarity, time, experiencer and the note's own words."""

from risk_model.notes.rule_reader import NoteReading

__all__ = [
    "NoteReading",
]
