"""The meaning of the code of an Observation or component: which concept, panel or scale it is, from all of its codings.

The order of codings has no meaning. A second coding or a text that narrows the meaning is part of it: 8480-6 (systolic
pressure) beside 8440-0 (of the pulmonary artery), or under the text "Pulmonary artery", is not the arm's pressure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fhir_mapping.core.values import Coding
from fhir_mapping.parsing.elements import MAX_CACHED_BYTES, Raw, decoded_value
from fhir_mapping.terminology.codes import LOINC, SNOMED, codings
from fhir_mapping.terminology.concepts import ConceptDefinition, Definitions, definitions

CONSCIOUSNESS = frozenset(
    {(LOINC, "80288-4"), (LOINC, "67775-7"), (LOINC, "11454-6"), (SNOMED, "1104441000000107"), (SNOMED, "6942003")}
)  # fmt: skip
"""Codes of scales of consciousness (AVPU, ACVPU)."""
_CONSCIOUSNESS_CODES = frozenset(code for _, code in CONSCIOUSNESS)


@dataclass(frozen=True, slots=True)
class ObservationCodes:
    """The meaning of the codes of an Observation or component."""

    concept: ConceptDefinition | None
    loinc: str | None
    consistent: bool
    """Whether all its known codings and its text mean the same concept."""
    wanted: bool
    """Whether a code is that of a known concept in any system; a site map may translate the system."""
    understood: bool
    """Whether a coding is in a system whose codes are known here; if not, a site map could translate it."""
    consciousness: bool
    panel: tuple[str, ...]
    """Names of the concepts that this panel measures."""
    words: str
    """Its text and the displays of all codings but those of a known concept: they may narrow it and its components."""
    specimen: str | None
    """The kind of specimen that the words name."""
    systems: frozenset[str]
    """Canonical URIs of its code systems."""
    first_system: str
    """Name of its code system, for refusals of untranslated codes."""


def coded(code: Raw) -> ObservationCodes:
    """Returns the meaning of a code; cached by its bytes."""
    text = bytes(code)
    return _coded(text) if len(text) <= MAX_CACHED_BYTES else _coded.__wrapped__(text)


@lru_cache(maxsize=8192)
def _coded(text: bytes) -> ObservationCodes:
    concept = decoded_value(text)
    known, found = definitions(), codings(concept)
    meant = {known.by_code[key].name: known.by_code[key] for key in _keys(found) if key in known.by_code}
    words = " ".join(_words(concept, found, known))
    first = next(iter(meant.values()), None)
    loincs = [code for system, code in _keys(found) if system == LOINC]
    return ObservationCodes(
        concept=first,
        loinc=next((code for code in loincs if code in known.by_loinc), None),
        consistent=first is not None and len(meant) == 1 and not _narrowed(first, found, words, known),
        wanted=any(_is_wanted(coding.code, known) for coding in found),
        understood=bool(loincs) or bool(meant),
        consciousness=any(key in CONSCIOUSNESS for key in _keys(found)),
        panel=next((known.panels[key] for key in _keys(found) if key in known.panels), ()),
        words=words,
        specimen=known.specimen_of(words),
        systems=frozenset(coding.system for coding in found if coding.system is not None),
        first_system=next((coding.system for coding in found if coding.system), "no code system"),
    )


def _keys(found: Iterable[Coding]) -> list[tuple[str, str]]:
    return [(coding.system, coding.code) for coding in found if coding.system is not None]


def _is_wanted(code: str, known: Definitions) -> bool:
    return code in known.codes or code in _CONSCIOUSNESS_CODES


def _words(concept: Any, found: Iterable[Coding], known: Definitions) -> Iterable[str]:
    text = concept.get("text") if isinstance(concept, dict) else None
    if isinstance(text, str):
        yield text
    for coding in found:
        if coding.display and (coding.system or "", coding.code) not in known.by_code:
            yield coding.display


def _narrowed(concept: ConceptDefinition, found: Iterable[Coding], words: str, known: Definitions) -> bool:
    """Whether another coding, or the words, make it another quantity.

    A further LOINC code is a narrower or another quantity unless it is known: LOINC never has two codes for one thing.
    """
    for coding in found:
        if (coding.system or "", coding.code) in known.by_code:
            continue
        if coding.system == LOINC and coding.code not in known.companions:
            return True
        if coding.system == SNOMED and coding.code in known.neighbours:
            return True
    return concept.is_other(words)
