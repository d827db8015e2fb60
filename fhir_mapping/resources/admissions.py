"""How a patient came and left: admission source, priority and discharge disposition of an Encounter.

Every coding is read by its own code system (`terminology.encounter_codes`), wherever national profiles put it: in the
element itself, in an extension of it (Germany: Entlassungsgrund), or in an extension of the Encounter or its
`hospitalization` (Switzerland, United Kingdom).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fhir_mapping.core.values import Coding, Stay
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.terminology.codes import SNOMED, codings, text_of
from fhir_mapping.terminology.codes import coding as coding_of
from fhir_mapping.terminology.encounter_codes import Table, is_known_system, meanings

_NUBC = "https://www.nubc.org/CodeSystem/PatDischargeStatus"
_HL7 = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
# Category of each destination; the destinations are those of `encounter_codes.yaml`.
_CATEGORIES = {
    "died": "died",
    "against_advice": "against_advice",
    "hospice": "hospice",
    "hospital": "transfer",
    "psychiatric": "psychiatric",
    "nursing": "facility",
    "rehabilitation": "facility",
    "long_term_care": "facility",
    "facility": "facility",
    "home_care": "home",
    "home": "home",
}
DISPOSITIONS = tuple(dict.fromkeys(_CATEGORIES.values()))
# Unspecific destinations: a second code of the same category may be more precise.
_UNSPECIFIC = frozenset({"facility", "home"})
_NESTED_EXTENSIONS = 3


@dataclass(frozen=True, slots=True)
class CodedFact:
    """One fact of the codes of an element: its meaning, or the reason code why it is unknown, and a code to show.

    `code` is one of a known system, else the alphabetically first; it is for display and export only.
    """

    meaning: str | None
    reason: str
    code: str | None = None


def read_disposition(resource: Resource) -> CodedFact:
    """Returns the destination of an Encounter: a word of `encounter_codes.yaml`."""
    admission = admission_of(resource)
    concept = admission.get("dischargeDisposition")
    return _fact("dispositions", concept, (*codings(concept), *_extended(admission), *_extended(concept)))


def read_source(resource: Resource) -> CodedFact:
    """Returns the admission source of an Encounter."""
    admission = admission_of(resource)
    concept = admission.get("admitSource")
    return _fact(
        "sources", concept, (*codings(concept), *_extended(admission), *_extended(concept), *_extended(resource))
    )


def read_acute(resource: Resource, source: str | None, types: tuple[Coding, ...]) -> tuple[bool | None, str]:
    """Returns whether priority, admission source or type mean emergency (True) or elective (False), else the reason."""
    admission = admission_of(resource)
    concept = resource.get("priority")
    stated = (*codings(concept), *_extended(resource), *_extended(admission))
    found = meanings("priorities", stated)
    if len(found) > 1:
        return None, "codes-disagree"
    if found:
        return "acute" in found, ""
    if source == "emergency":
        return True, ""
    by_type = meanings("priorities", (coding for coding in types if coding.system == SNOMED))
    if len(by_type) == 1:
        return "acute" in by_type, ""
    return None, "code-not-understood" if codings(concept) or text_of(concept) else "not-coded"


def admission_of(resource: Resource) -> dict[str, Any]:
    """Returns `hospitalization` (R4) or `admission` (R5), or an empty dictionary."""
    found = resource.get("hospitalization") or resource.get("admission")
    return found if isinstance(found, dict) else {}


def destination_of(code: str) -> str | None:
    """Returns the destination of a bare code of NUBC patient discharge status or HL7 discharge-disposition.

    >>> destination_of("03"), destination_of("exp"), destination_of("mars")
    ('nursing', 'died', None)
    """
    return next(iter(meanings("dispositions", (Coding(_NUBC, code), Coding(_HL7, code)))), None)


def disposition(stay: Stay) -> str | None:
    """Returns one of `DISPOSITIONS`, or None if the discharge disposition is not coded or its code is unknown."""
    return _CATEGORIES.get(stay.destination or "")


def admission_source(stay: Stay) -> str | None:
    """Returns the category of the admission source, or None if it is not coded or its code is unknown."""
    return stay.origin


def _fact(table: Table, concept: Any, stated: tuple[Coding, ...]) -> CodedFact:
    return _fact_of(table, codings(concept), stated, has_text=bool(text_of(concept)))


@lru_cache(maxsize=1024)  # a chart repeats the same few ways to come and go
def _fact_of(table: Table, own: tuple[Coding, ...], stated: tuple[Coding, ...], *, has_text: bool) -> CodedFact:
    known = [coding for coding in stated if is_known_system(table, coding.system) or meanings(table, (coding,))]
    shown = min(known or own, key=lambda coding: (coding.system or "", coding.code), default=None)
    code = None if shown is None else shown.code
    found = _agreed(meanings(table, stated))
    if len(found) == 1:
        return CodedFact(next(iter(found)), "", code)
    if found:
        return CodedFact(None, "codes-disagree", code)
    return CodedFact(None, "code-not-understood" if own or known or has_text else "not-coded", code)


def _agreed(found: frozenset[str]) -> frozenset[str]:
    """Returns the meanings without the less specific ones: `other`, and the general place of a category.

    >>> sorted(_agreed(frozenset({"other", "home", "home_care"}))), sorted(_agreed(frozenset({"died", "home"})))
    (['home_care'], ['died', 'home'])
    """
    specific = found - {"other"} if len(found) > 1 else found
    precise = {name for name in specific if name not in _UNSPECIFIC}
    categories = {_CATEGORIES.get(name) for name in precise}
    return frozenset(name for name in specific if name in precise or _CATEGORIES[name] not in categories)


def _extended(holder: Any, depth: int = 0) -> Iterator[Coding]:
    """Yields the codings in the extensions of an element; only those of known systems will have a meaning."""
    extensions = holder.get("extension") if isinstance(holder, dict) else None
    if not isinstance(extensions, list) or depth == _NESTED_EXTENSIONS:
        return
    for extension in extensions:
        if isinstance(extension, dict):
            yield from codings(extension.get("valueCodeableConcept"))
            yield from coding_of(extension.get("valueCoding"))
            yield from _extended(extension, depth + 1)
