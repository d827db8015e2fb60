"""What we read from Observation, as data: `concepts.json`, checked when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

GROUPS = ("vital sign", "laboratory")


@dataclass(frozen=True, slots=True)
class ConceptDefinition:
    """One concept: canonical UCUM `unit`, plausible `low`..`high` in it, and conversions into it (factor, offset)."""

    name: str
    label: str
    group: str
    unit: str
    low: float
    high: float
    loinc: tuple[str, ...]
    conversions: Mapping[str, tuple[float, float]]
    unitless: bool

    def convert(self, value: float, unit: str) -> float | None:
        """`value` in the canonical unit, or None when `unit` cannot mean this concept."""
        if unit == self.unit:
            return value
        conversion = self.conversions.get(unit)
        return None if conversion is None else value * conversion[0] + conversion[1]


@dataclass(frozen=True, slots=True)
class Definitions:
    concepts: Mapping[str, ConceptDefinition]
    by_loinc: Mapping[str, ConceptDefinition]
    units: Mapping[str, str]
    """Spelling found in the wild -> UCUM."""


@cache
def definitions() -> Definitions:
    """The shipped definitions. Raises ValueError naming the concept when the file breaks its schema."""
    return parse(orjson.loads(files(__package__).joinpath("concepts.json").read_bytes()))


def parse(document: Mapping[str, Any]) -> Definitions:
    """Check and read a definitions document.

    >>> parse({"units": {}, "unitless": [], "concepts": {"x": {"unit": ""}}})
    Traceback (most recent call last):
    ValueError: concept x: needs label, group, unit, range, loinc, from
    """
    concepts = {name: _concept(name, raw, name in document["unitless"]) for name, raw in document["concepts"].items()}
    by_loinc: dict[str, ConceptDefinition] = {}
    for concept in concepts.values():
        for code in concept.loinc:
            if code in by_loinc:
                raise ValueError(f"concept {concept.name}: LOINC {code} already means {by_loinc[code].name}")
            by_loinc[code] = concept
    return Definitions(concepts, by_loinc, dict(document["units"]))


def _concept(name: str, raw: Mapping[str, Any], unitless: bool) -> ConceptDefinition:
    if not {"label", "group", "unit", "range", "loinc", "from"} <= raw.keys() or not raw["unit"]:
        raise ValueError(f"concept {name}: needs label, group, unit, range, loinc, from")
    low, high = raw["range"]
    if not low < high:
        raise ValueError(f"concept {name}: the range is empty")
    if raw["group"] not in GROUPS:
        raise ValueError(f"concept {name}: group is one of {', '.join(GROUPS)}")
    conversions = {
        unit: (float(step[0]), float(step[1])) if isinstance(step, list) else (float(step), 0.0)
        for unit, step in raw["from"].items()
    }
    return ConceptDefinition(
        name, raw["label"], raw["group"], raw["unit"], low, high, tuple(raw["loinc"]), conversions, unitless
    )
