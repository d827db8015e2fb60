"""The phrases for concepts in notes, as defined in `note_phrases.yaml`; checked and loaded once per process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from fhir_mapping.terminology.concepts import GROUPS, ConceptDefinition, Definitions, definitions
from fhir_mapping.terminology.definition_files import DefinitionError, DefinitionField, check_fields, read_yaml

__all__ = ["GRADES", "NoteConcept", "NotePhrases", "NoteState", "note_phrases", "parse"]

GRADES: Mapping[str, int] = {"severely low": -2, "low": -1, "normal": 0, "high": 1, "severely high": 2}
_HEAD = (
    DefinitionField("concepts", dict),
    DefinitionField("measured", dict),
    DefinitionField("states", dict),
    DefinitionField("pressures", list),
    DefinitionField("blood_gases", list),
    DefinitionField("adjectives", dict),
    DefinitionField("fluids", dict, required=False),
    DefinitionField("no_result", list, required=False),
)
_PHRASES = (
    DefinitionField("names", list, required=False),
    DefinitionField("grades", dict, required=False),
    DefinitionField("unlike", dict, required=False),
    DefinitionField("without_unit", list, required=False),
)
_MEASURED = (
    *_PHRASES,
    DefinitionField("label", str),
    DefinitionField("group", str, one_of=GROUPS),
    DefinitionField("unit", str),
    DefinitionField("range", list),
    DefinitionField("units", list),
)
_STATE = (DefinitionField("label", str), DefinitionField("present", list), DefinitionField("absent", list))
_FLUID = (DefinitionField("words", list), DefinitionField("concepts", list))
_UNLIKE = (DefinitionField("before", list, required=False), DefinitionField("after", list, required=False))


@dataclass(frozen=True, slots=True)
class NoteConcept:
    """The phrases for one concept. A name with a capital letter is matched exactly, others in any case."""

    definition: ConceptDefinition
    names: tuple[str, ...]
    grades: Mapping[str, int]
    """Phrase -> grade, from -2 (severely low) through 0 (normal) to 2 (severely high)."""
    not_after: frozenset[str]
    not_before: frozenset[str]
    without_unit: tuple[float, float]
    """Range, in the canonical unit, in which a number without a unit is accepted."""


@dataclass(frozen=True, slots=True)
class NoteState:
    """A state that is present or absent in a patient, with the phrases for both."""

    name: str
    label: str
    present: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoteFluid:
    """A specimen other than blood: patterns that name it in notes, and the concepts that are measured in it as well."""

    words: tuple[str, ...]
    concepts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotePhrases:
    """The content of `note_phrases.yaml`."""

    concepts: Mapping[str, NoteConcept]
    states: Mapping[str, NoteState]
    pressures: tuple[str, ...]
    blood_gases: tuple[str, ...]
    adjectives: Mapping[str, int]
    units: Mapping[str, str]
    """Spelling -> UCUM unit, for units that only notes have."""
    fluids: Mapping[str, NoteFluid] = field(default_factory=dict)
    no_result: frozenset[str] = frozenset()
    """Words right after a name that make it no measurement: `low sodium diet`, `potassium replacement`."""

    def label(self, name: str) -> str | None:
        """Returns the display label of a concept or state; None for an unknown name."""
        if name in self.states:
            return self.states[name].label
        return self.concepts[name].definition.label if name in self.concepts else None


@cache
def note_phrases() -> NotePhrases:
    """Returns the shipped phrases. Raises DefinitionError naming file, concept and field if they are invalid."""
    name = "note_phrases.yaml"
    return parse(read_yaml(files("fhir_mapping.definitions").joinpath(name).read_bytes(), name), name, definitions())


def parse(document: Any, file: str, known: Definitions) -> NotePhrases:
    """Returns the phrases of a YAML document; each concept must be in `known` or in `measured`.

    Raises DefinitionError naming file and field.
    """
    check_fields(document, _HEAD, file, "")
    concepts = {name: _concept(known.concepts[name], {}, file, name) for name in known.concepts}
    for name, raw in document["concepts"].items():
        place = f"concepts.{name}"
        if name not in known.concepts:
            raise DefinitionError(file, place, "unknown concept; see concepts.yaml")
        check_fields(raw, _PHRASES, file, place)
        concepts[name] = _concept(known.concepts[name], raw, file, place)
    units: dict[str, str] = {}
    for name, raw in document["measured"].items():
        place = f"measured.{name}"
        check_fields(raw, _MEASURED, file, place)
        if name in known.concepts:
            raise DefinitionError(file, place, "is in concepts.yaml already")
        low, high = _bounds(raw["range"], file, f"{place}.range")
        definition = ConceptDefinition(name, raw["label"], raw["group"], raw["unit"], low, high, (), {})
        concepts[name] = _concept(definition, raw, file, place)
        units |= {str(spelling): raw["unit"] for spelling in raw["units"]}
    claimed = {text for name in document["measured"] for text in concepts[name].names}
    for name in known.concepts:
        own = tuple(text for text in concepts[name].names if text not in claimed)
        concepts[name] = replace(concepts[name], names=own)
    states = {name: _state(name, raw, file) for name, raw in document["states"].items()}
    pressures, gases = (_phrases(document[name], file, name) for name in ("pressures", "blood_gases"))
    adjectives = _grades(document["adjectives"], file, "adjectives")
    fluids = {name: _fluid(raw, file, name, concepts) for name, raw in document.get("fluids", {}).items()}
    no_result = frozenset(_phrases(document.get("no_result", []), file, "no_result"))
    return NotePhrases(concepts, states, pressures, gases, adjectives, units, fluids, no_result)


def _fluid(raw: Any, file: str, name: str, known: Mapping[str, NoteConcept]) -> NoteFluid:
    place = f"fluids.{name}"
    check_fields(raw, _FLUID, file, place)
    fluid = NoteFluid(*(_phrases(raw[key], file, f"{place}.{key}") for key in ("words", "concepts")))
    for concept in fluid.concepts:
        if concept not in known:
            raise DefinitionError(file, f"{place}.concepts", f"{concept!r} is no concept")
    for pattern in fluid.words:
        try:
            re.compile(pattern)
        except re.error as error:
            raise DefinitionError(file, f"{place}.words", f"{pattern!r} is no regular expression: {error}") from None
    return fluid


def _concept(definition: ConceptDefinition, raw: Mapping[str, Any], file: str, place: str) -> NoteConcept:
    unlike = raw.get("unlike", {})
    check_fields(unlike, _UNLIKE, file, f"{place}.unlike")
    alone = raw.get("without_unit")
    return NoteConcept(
        definition=definition,
        names=tuple(dict.fromkeys((definition.label.lower(), *_phrases(raw.get("names", []), file, f"{place}.names")))),
        grades=_grades(raw.get("grades", {}), file, f"{place}.grades"),
        not_after=frozenset(_phrases(unlike.get("before", []), file, f"{place}.unlike.before")),
        not_before=frozenset(_phrases(unlike.get("after", []), file, f"{place}.unlike.after")),
        without_unit=(definition.low, definition.high)
        if alone is None
        else _bounds(alone, file, f"{place}.without_unit"),
    )


def _state(name: str, raw: Any, file: str) -> NoteState:
    place = f"states.{name}"
    check_fields(raw, _STATE, file, place)
    return NoteState(name, raw["label"], _phrases(raw["present"], file, place), _phrases(raw["absent"], file, place))


def _grades(raw: Mapping[str, Any], file: str, place: str) -> dict[str, int]:
    unknown = [word for word in raw if word not in GRADES]
    if unknown:
        raise DefinitionError(file, place, f"{unknown[0]!r} is none of {', '.join(GRADES)}")
    return {phrase: GRADES[word] for word, found in raw.items() for phrase in _phrases(found, file, f"{place}.{word}")}


def _phrases(raw: Any, file: str, place: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(item, str) and item.strip() for item in raw):
        raise DefinitionError(file, place, "expected a list of text; put words such as yes and no in quotes")
    return tuple(raw)


def _bounds(raw: Any, file: str, place: str) -> tuple[float, float]:
    if not isinstance(raw, list) or len(raw) != 2 or not all(isinstance(b, int | float) for b in raw):
        raise DefinitionError(file, place, "expected [low, high]")
    if not raw[0] < raw[1]:
        raise DefinitionError(file, place, "low must be below high")
    return float(raw[0]), float(raw[1])
