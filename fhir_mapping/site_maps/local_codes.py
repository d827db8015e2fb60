"""Proposes concepts for local codes by name, unit and range of values, for a person to confirm.

    codes = LocalCodes(); codes.add(observation), ...; codes.proposals() -> the most frequent code first

A proposal is `clear` where one concept has the name, the unit converts, and 19 of 20 values are plausible for it. It is
never applied by itself: a name such as `Sodium` is that of urine too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from fhir_mapping.parsing.elements import Resource
from fhir_mapping.site_maps.site_map import SiteMap, shipped
from fhir_mapping.terminology.codes import LOINC, SNOMED, system_of
from fhir_mapping.terminology.concepts import ConceptDefinition, definitions
from fhir_mapping.terminology.note_terms import note_phrases

PLAUSIBLE = 0.95
_MOST_VALUES = 2000
"""Values kept of one code: enough for its range."""
_WORD = re.compile(r"[a-z0-9]+")
# Words of a name that do not make it another quantity.
_QUALIFIERS = frozenset(
    {"serum", "plasma", "blood", "level", "total", "s", "p", "b", "whole", "quant", "venous", "lab", "test", "result",
     "measured", "conc", "concentration", "ser", "plas"}
)  # fmt: skip


@dataclass(slots=True)
class LocalCode:
    """A code without a standard one beside it, as an export has it."""

    system: str
    code: str
    names: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    values: list[float] = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True, slots=True)
class CodeProposal:
    """What a local code may mean: `concept` is None where nothing fits, `reasons` say what speaks for or against it."""

    system: str
    code: str
    name: str
    unit: str
    count: int
    low: float | None
    median: float | None
    high: float | None
    concept: str | None
    loinc: str | None
    clear: bool
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"reasons": list(self.reasons)}


class LocalCodes:
    """Collects the local codes of Observations and their components."""

    def __init__(self, site: SiteMap | None = None) -> None:
        self._site = site or shipped()
        self._found: dict[tuple[str, str], LocalCode] = {}

    def add(self, observation: Resource) -> None:
        """Counts an Observation, if its code has no LOINC or SNOMED CT coding and no site map translates it."""
        translated = self._site.translate(observation)
        self._add_part(translated)
        for component in translated.get("component") or ():
            if isinstance(component, dict):
                self._add_part(component)

    def _add_part(self, part: Mapping[str, Any]) -> None:
        code = part.get("code")
        listed = code.get("coding") if isinstance(code, dict) else None
        codings = [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []
        systems = {system_of(c.get("system")) for c in codings if isinstance(c.get("system"), str)}
        local = next((c for c in codings if isinstance(c.get("system"), str) and isinstance(c.get("code"), str)), None)
        if local is None or systems & {LOINC, SNOMED}:
            return
        key = (system_of(local["system"]) or local["system"], local["code"])
        found = self._found.setdefault(key, LocalCode(*key))
        found.count += 1
        for name in (local.get("display"), code.get("text") if isinstance(code, dict) else None):
            if isinstance(name, str) and name.strip():
                found.names[name.strip()] += 1
        quantity = part.get("valueQuantity")
        value = quantity.get("value") if isinstance(quantity, dict) else None
        if isinstance(quantity, dict) and isinstance(value, int | float) and not isinstance(value, bool):
            found.units[str(quantity.get("code") or quantity.get("unit") or "")] += 1
            if len(found.values) < _MOST_VALUES:
                found.values.append(float(value))

    def proposals(self) -> list[CodeProposal]:
        """Returns one proposal a code, the most frequent first."""
        listed = sorted(self._found.values(), key=lambda code: (-code.count, code.system, code.code))
        return [_proposed(code) for code in listed]


@cache
def _by_name() -> Mapping[frozenset[str], frozenset[str]]:
    """Words of a name -> concepts that are called so."""
    found: dict[frozenset[str], set[str]] = {}
    for name, concept in definitions().concepts.items():
        phrases = note_phrases().concepts.get(name)
        for words in (concept.label, name.replace("_", " "), *(phrases.names if phrases else ())):
            if len(words) > 1:
                found.setdefault(_words(words), set()).add(name)
    return {words: frozenset(names) for words, names in found.items()}


def _words(name: str) -> frozenset[str]:
    words = frozenset(_WORD.findall(name.lower()))
    return words - _QUALIFIERS or words


def _proposed(code: LocalCode) -> CodeProposal:
    name = code.names.most_common(1)[0][0] if code.names else ""
    unit = code.units.most_common(1)[0][0] if code.units else ""
    candidates = sorted({concept for said in (*code.names, code.code) for concept in _by_name().get(_words(said), ())})
    checked = [(concept, *_against(definitions().concepts[concept], code, name, unit)) for concept in candidates]
    fitting = [(concept, reasons) for concept, against, reasons in checked if not against]
    values = sorted(code.values)
    concept: str | None = None
    clear = False
    reasons: tuple[str, ...] = ("no concept has this name",)
    if len(fitting) == 1:
        concept, reasons = fitting[0]
        clear = True
    elif fitting:
        reasons = (f"several concepts fit: {', '.join(one for one, _ in fitting)}",)
    elif checked:
        concept, _, reasons = checked[0]
    definition = None if concept is None else definitions().concepts[concept]
    return CodeProposal(
        code.system, code.code, name, unit, code.count,
        values[0] if values else None, values[len(values) // 2] if values else None, values[-1] if values else None,
        concept, definition.loinc[0] if definition and definition.loinc else None, clear, tuple(reasons),
    )  # fmt: skip


def _against(concept: ConceptDefinition, code: LocalCode, name: str, unit: str) -> tuple[bool, tuple[str, ...]]:
    """Returns whether anything speaks against a concept, and what was found."""
    reasons, against = [f"the name is that of {concept.label}"], False
    specimen = definitions().specimen_of(name)
    if concept.is_other(name) or (specimen is not None and specimen not in {concept.specimen, "blood"}):
        return True, (*reasons, "other words of the name make it another quantity")
    if not code.values:
        return True, (*reasons, "it has no numbers")
    if not unit and not concept.unitless:
        return True, (*reasons, f"its values have no unit; if they are in {concept.unit}, say so in the site map")
    known = definitions().unit(unit) if unit else concept.unit
    converted = [concept.convert(value, known) for value in code.values]
    numbers = [value for value in converted if value is not None]
    if not numbers:
        return True, (*reasons, f"its unit {unit} does not convert into {concept.unit}")
    share = sum(concept.low <= value <= concept.high for value in numbers) / len(numbers)
    reasons.append(f"{unit or 'no unit'} converts into {concept.unit}")
    reasons.append(f"{share:.0%} of {len(numbers)} values are plausible")
    against = share < PLAUSIBLE or (len(code.units) > 1 and len({definitions().unit(u) for u in code.units}) > 1)
    if len(code.units) > 1:
        reasons.append(f"several units: {', '.join(code.units)}")
    return against, tuple(reasons)
