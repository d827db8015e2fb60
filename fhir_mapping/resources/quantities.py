"""Converts the value of an Observation or component to a number in the concept's canonical unit, or gives a reason.

FHIR R4 Observation.value[x] (https://hl7.org/fhir/R4/observation.html), UCUM (https://ucum.org).
"""

from __future__ import annotations

import math
import re
from typing import Any

from fhir_mapping.core.times import DATA_ABSENT
from fhir_mapping.parsing.elements import ObservationPart, values_of
from fhir_mapping.terminology.codes import UCUM, system_of
from fhir_mapping.terminology.concepts import ConceptDefinition, Definitions

_NUMBER_WITH_UNIT = re.compile(r"\s*(-?\d+(?:\.\d+)?)(?:\s+(\S+(?: \S+)?)|([A-Za-z%µμ/°]\S*))\s*\Z", re.ASCII)
_BOUND = re.compile(r"\s*(?:[<>≤≥]|less than|greater than|more than|above|below)", re.IGNORECASE)
_EQUAL = (None, "", "=")  # HL7 v2 writes an exact value with an equals sign; converters copy it
_SMALLEST_SENTINEL = 9999
_SENTINEL = re.compile(r"-?9{4,}(?:\.[09]*)?\Z")


def usable_value(
    part: ObservationPart, concept: ConceptDefinition, known: Definitions, loinc: str | None = None
) -> tuple[float | None, str]:
    """Returns (value in the concept's unit, "") or (None, reason code).

    A bound such as `<5` is censored, never 5; text, ratios, ranges and series are not numbers; a value together with a
    data-absent-reason is not used.
    """
    values = values_of(part)
    absent = bool(part.dataAbsentReason)
    if values > 1:
        return None, "several-values"
    if not values:
        return None, "data-absent" if absent else "no-value"
    if absent:
        return None, "value-and-absent-reason"
    quantity, reason = _quantity(part)
    if quantity is None:
        return None, reason
    if quantity.get("comparator") not in _EQUAL:
        return None, "censored"
    number, reason = _number(quantity)
    if number is None:
        return None, reason
    unit, reason = _unit(quantity, concept, known)
    if unit is None:
        return None, reason
    converted = concept.convert(number, unit, loinc)
    if converted is None:
        return None, "unit-not-understood"
    if not concept.low <= converted <= concept.high:
        return None, "implausible"
    return round(converted, 6), ""


def _quantity(part: ObservationPart) -> tuple[dict[str, Any] | None, str]:
    """Returns a Quantity from valueQuantity, valueInteger, or a plain number with its unit in valueString."""
    quantity = part.valueQuantity
    if type(quantity) is dict:
        return quantity, ""
    if part.valueInteger is not None:
        return {"value": part.valueInteger}, ""
    text = part.valueString
    if not isinstance(text, str):
        return None, "value-not-a-number"
    if _BOUND.match(text):
        return None, "censored"
    strict = _NUMBER_WITH_UNIT.match(text)
    if strict is None:
        return None, "value-not-a-number"
    return {"value": float(strict[1]), "unit": strict[2] or strict[3]}, ""


def _number(quantity: dict[str, Any]) -> tuple[float | None, str]:
    raw = quantity.get("value")
    if ("extension" in quantity or "_value" in quantity) and _absent(quantity):
        return None, "data-absent" if raw is None else "value-and-absent-reason"
    if raw is None:
        return None, "no-value"
    number = raw if type(raw) is float and math.isfinite(raw) else finite(raw)
    if number is None:
        return None, "value-not-a-number"
    if abs(number) >= _SMALLEST_SENTINEL and _SENTINEL.match(f"{number:f}".rstrip("0").rstrip(".")):
        return None, "sentinel"
    return number, ""


def finite(value: Any) -> float | None:
    """Returns a JSON number as a float; None for anything else, also for booleans and numbers too large for a float.

    >>> finite(5), finite(True), finite("5"), finite(10**400)
    (5.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _absent(quantity: dict[str, Any]) -> bool:
    """Whether the quantity or its value has a data-absent-reason extension."""
    sibling = quantity.get("_value")
    holders = [quantity, sibling] if isinstance(sibling, dict) else [quantity]
    found = [e for holder in holders for e in (holder.get("extension") or ()) if isinstance(e, dict)]
    return any(extension.get("url") == DATA_ABSENT for extension in found)


def _unit(quantity: dict[str, Any], concept: ConceptDefinition, known: Definitions) -> tuple[str | None, str]:
    """Returns (UCUM unit, "") of a quantity, or (None, reason code).

    An unknown display unit does not overrule the UCUM code; a known one that contradicts it makes the unit unknown.
    """
    code, display = quantity.get("code"), quantity.get("unit")
    from_code = known.unit(code) if isinstance(code, str) and code.strip() else None
    if from_code == concept.unit and display == code and quantity.get("system") == UCUM:
        return from_code, ""  # the usual case
    from_display = known.unit(display) if isinstance(display, str) and display.strip() else None
    if from_code and system_of(quantity.get("system")) not in {None, UCUM}:
        from_code = from_code if from_display is None else None  # a unit code of another system is not UCUM
    if from_code is None and from_display is None:
        return (concept.unit, "") if concept.unitless else (None, "no-unit")
    if from_code is None or from_display is None or from_code == from_display:
        return from_code or from_display, ""
    if not {from_code, from_display} <= known.known_units:
        return (from_code if from_code in known.known_units else from_display), ""
    one, other = (concept.convert(7.0, unit) for unit in (from_code, from_display))
    return (from_code, "") if one is not None and one == other else (None, "unit-conflict")
