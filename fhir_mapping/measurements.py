"""Observation to `Measurement`: one usable value of a known concept in its canonical unit, or a refusal with a reason.

FHIR R4 Observation (https://hl7.org/fhir/R4/observation.html). Codes are looked up by LOINC whatever their order; a
local code with a familiar text is not guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fhir_mapping.codes import LOINC, SNOMED, codings, system_of
from fhir_mapping.definitions import ConceptDefinition, Definitions, definitions
from fhir_mapping.reading import Resource
from fhir_mapping.times import moment, parse_instant, reachable
from fhir_mapping.values import Instant, Measurement, Refusal

UCUM = "http://unitsofmeasure.org"
USABLE = frozenset({"final", "amended", "corrected", "preliminary"})
_NUMBER_WITH_UNIT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s+(\S+(?: \S+)?)\s*\Z")
CONSCIOUSNESS_LOINC = frozenset({"80288-4", "67775-7", "11454-6"})
_CONSCIOUSNESS = {
    (LOINC, "LA9340-6"): "alert",
    (LOINC, "LA17108-4"): "voice",
    (LOINC, "LA17107-6"): "pain",
    (LOINC, "LA9343-0"): "unresponsive",
    (SNOMED, "248234008"): "alert",
    (SNOMED, "300202002"): "voice",
    (SNOMED, "450847001"): "pain",
    (SNOMED, "422768004"): "unresponsive",
    (SNOMED, "130987000"): "confusion",
    (SNOMED, "40917007"): "confusion",
}


def observed_at(resource: Resource) -> Instant | None:
    """When the value was true: effectiveDateTime, -Instant, the end (else start) of effectivePeriod, else issued.

    Falling back to `issued` can only make a value look newer, never reach past the prediction time.
    """
    for name in ("effectiveDateTime", "effectiveInstant"):
        if name in resource:
            return parse_instant(resource[name])
    period = resource.get("effectivePeriod")
    if isinstance(period, dict):
        return parse_instant(period.get("end")) or parse_instant(period.get("start"))
    return parse_instant(resource.get("issued"))


def concerns(head: Resource) -> bool:
    """Whether a code of an Observation or its components is one we read, in whatever system; `measure` looks closer."""
    known, wanted = definitions().by_loinc, CONSCIOUSNESS_LOINC
    return any(code in known or code in wanted for code in _codes(head))


def _codes(head: Resource) -> Iterator[str]:
    components = head.get("component")
    for part in (head, *components) if isinstance(components, list) else (head,):
        concept = part.get("code") if isinstance(part, dict) else None
        raw = concept.get("coding") if isinstance(concept, dict) else None
        for item in raw if isinstance(raw, list) else ():
            code = item.get("code") if isinstance(item, dict) else None
            if isinstance(code, str):
                yield code


def measure(resource: Resource, source: str, prediction_time: datetime) -> Iterator[Measurement | Refusal]:
    """Every value of a known concept in one Observation, its components included.

    Yields nothing for concepts we do not read and for what is not known by `prediction_time`: a result counts from
    the moment it was issued, not from the moment the blood was drawn.
    """
    known = definitions()
    parts = list(_parts(resource, known))
    if not parts:
        return
    at = observed_at(resource)
    if at is None:
        yield Refusal(source, "no-time", parts[0][1].name)
        return
    issued = parse_instant(resource.get("issued"))
    if not reachable(at, prediction_time) or (issued is not None and not reachable(issued, prediction_time)):
        return
    status = resource.get("status")
    if status not in USABLE:
        yield Refusal(source, f"status-{status}" if isinstance(status, str) else "no-status", parts[0][1].name)
        return
    if at.zone_assumed:
        yield Refusal(source, "time-without-zone", "read as UTC")
    values = [_value(part, concept, known, source) for part, concept in parts]
    if _inverted(values):
        yield Refusal(source, "pressure-inverted", "systolic_bp")
        yield Refusal(source, "pressure-inverted", "diastolic_bp")
        values = [v for v in values if isinstance(v, tuple) and v[0].name not in {"systolic_bp", "diastolic_bp"}]
    when, preliminary = moment(at), status == "preliminary"
    for value in values:
        if isinstance(value, Refusal):
            yield value
        else:
            yield Measurement(value[0].name, value[1], value[0].unit, when, source, preliminary)


def _parts(resource: Resource, known: Definitions) -> Iterator[tuple[Resource, ConceptDefinition]]:
    """The Observation itself and its components, each with the concept its LOINC code means."""
    concept = _concept(resource.get("code"), known)
    if concept is not None:
        yield resource, concept
    components = resource.get("component")
    for component in components if isinstance(components, list) else ():
        if isinstance(component, dict):
            concept = _concept(component.get("code"), known)
            if concept is not None:
                yield component, concept


def _concept(code: Any, known: Definitions) -> ConceptDefinition | None:
    raw = code.get("coding") if isinstance(code, dict) else None
    found: ConceptDefinition | None = None
    for item in raw if isinstance(raw, list) else ():
        if not isinstance(item, dict) or system_of(item.get("system")) != LOINC:
            continue
        number = item.get("code")
        concept = known.by_loinc.get(number) if isinstance(number, str) else None
        if concept is not None and found is not None and concept is not found:
            return None  # two LOINC codes that mean different things: we do not choose
        found = concept or found
    return found


def _value(
    part: Resource, concept: ConceptDefinition, known: Definitions, source: str
) -> tuple[ConceptDefinition, float] | Refusal:
    def refuse(reason: str) -> Refusal:
        return Refusal(source, reason, concept.name)

    absent = "dataAbsentReason" in part
    quantity = _quantity(part)
    if quantity is None:
        return refuse("data-absent" if absent else "value-not-a-number" if _has_value(part) else "no-value")
    if absent:
        return refuse("value-and-absent-reason")
    if quantity.get("comparator"):
        return refuse("censored")
    number = quantity.get("value")
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return refuse("value-not-a-number" if "value" in quantity else "no-value")
    unit = _unit(quantity, concept, known)
    if unit is None:
        return refuse("no-unit" if not (quantity.get("unit") or quantity.get("code")) else "unit-conflict")
    converted = concept.convert(float(number), unit)
    if converted is None:
        return refuse("unit-not-understood")
    if not concept.low <= converted <= concept.high:
        return refuse("implausible")
    return concept, round(converted, 6)


def _has_value(part: Resource) -> bool:
    return any(name.startswith("value") for name in part)


def _quantity(part: Resource) -> dict[str, Any] | None:
    """The value as a Quantity-like object: valueQuantity, valueInteger, or a strict number with unit in valueString."""
    quantity = part.get("valueQuantity")
    if isinstance(quantity, dict):
        return quantity
    if "valueInteger" in part:
        return {"value": part["valueInteger"]}
    text = part.get("valueString")
    strict = _NUMBER_WITH_UNIT.match(text) if isinstance(text, str) else None
    return {"value": float(strict[1]), "unit": strict[2]} if strict else None


def _unit(quantity: dict[str, Any], concept: ConceptDefinition, known: Definitions) -> str | None:
    """The UCUM unit of a quantity; None when there is none (and the concept needs one) or code and unit disagree.

    A display unit we cannot read does not overrule a UCUM code we can.
    """
    code, display = quantity.get("code"), quantity.get("unit")
    from_code = _spelling(code, known) if isinstance(code, str) and code else None
    from_display = _spelling(display, known) if isinstance(display, str) and display else None
    if from_code and quantity.get("system") not in {None, UCUM}:
        from_code = None  # a unit code of another system is not UCUM
    if from_code is None and from_display is None:
        return concept.unit if concept.unitless else None
    if from_code is None or from_display is None or from_code == from_display:
        return from_code or from_display
    readable = [unit for unit in (from_code, from_display) if concept.convert(1.0, unit) is not None]
    if len(readable) == 2 and concept.convert(7.0, from_code) != concept.convert(7.0, from_display):
        return None
    return readable[0] if readable else from_code


def _spelling(unit: str, known: Definitions) -> str:
    stripped = unit.strip()
    return known.units.get(stripped, stripped)


def _inverted(values: list[tuple[ConceptDefinition, float] | Refusal]) -> bool:
    pressure = {value[0].name: value[1] for value in values if isinstance(value, tuple)}
    systolic, diastolic = pressure.get("systolic_bp"), pressure.get("diastolic_bp")
    return systolic is not None and diastolic is not None and systolic <= diastolic


def consciousness(resource: Resource, prediction_time: datetime) -> tuple[str, datetime] | None:
    """Level of consciousness (AVPU and new confusion) as a word and its time, when coded and known by then."""
    if resource.get("status") not in USABLE:
        return None
    if not any(c.system == LOINC and c.code in CONSCIOUSNESS_LOINC for c in codings(resource.get("code"))):
        return None
    at = observed_at(resource)
    if at is None or not reachable(at, prediction_time):
        return None
    for coding in codings(resource.get("valueCodeableConcept")):
        word = _CONSCIOUSNESS.get((coding.system or "", coding.code))
        if word:
            return word, moment(at)
    return None
