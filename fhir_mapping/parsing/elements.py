"""The elements that are read of each type of resource, as the decoder gives them; it passes over all others.

An Observation, of which a chart has thousands, becomes a struct whose code and subject stay bytes: a chart repeats the
same few hundred of these, so what one means is found out once and remembered (`fragment`, `coded`). Other types that
are read become dictionaries with the elements of `_READ`; of types that nobody reads only whose they are is decoded.
That no element is missing here is proven by reading charts as bytes and as whole dictionaries: both say the same.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypedDict, cast

import msgspec
import orjson

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.terminology.codes import LOINC, CodeableConcept, codings, system_of
from fhir_mapping.terminology.concepts import ConceptDefinition, definitions

Resource = dict[str, Any]
Raw = msgspec.Raw
CONSCIOUSNESS_LOINC = frozenset({"80288-4", "67775-7", "11454-6"})
_NOTHING: Final = Raw(b"")
_MOST_DIGITS = 400  # no float holds more
_LONGEST_REMEMBERED = 2000  # bytes: no code or subject is longer, and the caches stay small


# Of every other type that is read; what follows FHIR's order is who and when, what it is, and the parts of some type.
_READ = (
    "resourceType", "id", "meta", "implicitRules", "contained", "identifier", "status", "docStatus", "subject",
    "patient", "focus", "encounter", "context", "period", "actualPeriod", "date", "issued", "authoredOn",
    "dateAsserted", "recordedDate", "assertedDate", "effectiveDateTime", "effectiveInstant", "effectivePeriod",
    "performedDateTime", "performedPeriod", "occurrenceDateTime", "occurrencePeriod", "occurenceDateTime",
    "occurencePeriod", "onsetDateTime", "onsetPeriod", "abatementDateTime", "abatementPeriod", "abatementAge",
    "abatementString", "abatementRange", "abatementBoolean",
    "code", "type", "class", "serviceType", "priority", "title", "description", "clinicalStatus",
    "verificationStatus", "intent", "doNotPerform", "adherence", "wasNotTaken", "taken", "notDone", "notPerformed",
    "medication", "medicationCodeableConcept", "medicationReference", "dispenseRequest", "dosage", "reason",
    "reasonCode", "reasonReference", "diagnosis", "hospitalization", "admission", "location", "partOf",
    "content", "presentedForm", "conclusion", "result", "relatesTo", "author", "performer", "resultsInterpreter",
    "authenticator",
)  # fmt: skip


class OwnerElements(msgspec.Struct, gc=False):
    """Id, subject and patient: all that is decoded of a type nobody reads."""

    id: Any = None
    subject: Raw = _NOTHING
    patient: Raw = _NOTHING
    focus: Any = None

    @classmethod
    def of(cls, resource: Resource) -> OwnerElements:
        """From a dictionary."""
        found = {name: Raw(_dumps(resource[name])) for name in ("subject", "patient") if name in resource}
        return cls(id=resource.get("id"), **found)


class ObservationPart(msgspec.Struct, gc=False):
    """Code and value of a component, or of an Observation itself."""

    code: Raw = _NOTHING
    dataAbsentReason: Any = None
    valueQuantity: Any = None
    valueCodeableConcept: Any = None
    valueString: Any = None
    valueBoolean: Any = None
    valueInteger: Any = None
    valueRange: Any = None
    valueRatio: Any = None
    valueSampledData: Any = None
    valueTime: Any = None
    valueDateTime: Any = None
    valuePeriod: Any = None
    valueAttachment: Any = None
    valueReference: Any = None


_NAMES = ObservationPart.__struct_fields__[ObservationPart.__struct_fields__.index("valueQuantity") :]
_values = attrgetter(*_NAMES)


def values_of(part: ObservationPart) -> int:
    """How many kinds of value it has."""
    values: tuple[Any, ...] = _values(part)
    return len(values) - values.count(None)


class Observation(ObservationPart, gc=False):
    """What is read of an Observation. Elements of a wrong type are None, as if they were not there."""

    id: Any = None
    status: Any = None
    implicitRules: Any = None
    modifierExtension: Any = None
    subject: Raw = _NOTHING
    patient: Raw = _NOTHING
    focus: Any = None
    component: list[ObservationPart] = []
    hasMember: Any = None
    effectiveDateTime: Any = None
    effectiveInstant: Any = None
    effectivePeriod: Any = None
    effectiveTiming: Any = None
    issued: Any = None
    specimen: Any = None
    contained: Any = None

    @classmethod
    def of(cls, resource: Resource) -> Observation:
        """From a dictionary."""
        found = {name: value for name, value in resource.items() if name in _OBSERVATION and name != "component"}
        for name in ("code", "subject", "patient"):
            if name in found:
                found[name] = Raw(_dumps(found[name]))
        listed = resource.get("component")
        parts = [_part(item) for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        return cls(component=parts, **found)

    @property
    def parts(self) -> tuple[ObservationPart, ...]:
        """The Observation itself and its components."""
        return (self, *self.component) if self.component else (self,)


# Of these a chart repeats the same few.
_CONCEPTS = frozenset(
    {"code", "type", "class", "serviceType", "priority", "clinicalStatus", "verificationStatus", "reasonCode",
     "medicationCodeableConcept"}
)  # fmt: skip
_ELEMENTS = cast(Any, TypedDict)("_ELEMENTS", dict.fromkeys(_READ, Any) | dict.fromkeys(_CONCEPTS, Raw), total=False)
WHOSE = msgspec.json.Decoder(OwnerElements)
OBSERVATION = msgspec.json.Decoder(Observation)
_DECODER: msgspec.json.Decoder[Resource] = msgspec.json.Decoder(_ELEMENTS)
_OBSERVATION = frozenset(Observation.__struct_fields__)
_PART = frozenset(ObservationPart.__struct_fields__)


def _part(component: Resource) -> ObservationPart:
    found = {name: value for name, value in component.items() if name in _PART}
    if "code" in found:
        found["code"] = Raw(_dumps(found["code"]))
    return ObservationPart(**found)


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # not from JSON: integers over 64 bits, keys that are no strings, lone surrogates
        return json.dumps(value, skipkeys=True, default=str).encode()


def decode_json(text: bytes) -> Any:
    """JSON to values; a number beyond any float, such as 1e400, is an infinity: then that one value is refused.

    Raises InvalidInputError for what is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        message = error.msg
    try:
        if "infinity" in message:
            return json.loads(text, parse_int=_integer, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        pass
    raise InvalidInputError(f"not valid JSON: {message}")


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < _MOST_DIGITS else math.inf


def _no_constant(name: str) -> float:
    raise ValueError(name)


def elements(raw: Raw | bytes) -> Resource:
    """What is read of any other type. Raises msgspec.DecodeError for a number beyond any float."""
    found = _DECODER.decode(raw)
    for name in _CONCEPTS & found.keys():
        found[name] = fragment(found[name])
    return found


@dataclass(frozen=True, slots=True)
class ObservationCodes:
    """What the codes of an Observation or component mean."""

    concept: ConceptDefinition | None
    loinc: str | None
    clear: bool
    """Whether all its LOINC codes agree on the concept."""
    wanted: bool
    """Whether a code is one we read, in whatever system; a site map may say which."""
    speaks_loinc: bool
    consciousness: bool
    systems: frozenset[str]
    """As written."""
    first_system: str
    """What to call its vocabulary where nobody translated it."""


def coded(code: Raw) -> ObservationCodes:
    """The meaning of a code, found out once for the same bytes."""
    text = bytes(code)
    return _coded(text) if len(text) <= _LONGEST_REMEMBERED else _coded.__wrapped__(text)


@lru_cache(maxsize=8192)
def _coded(text: bytes) -> ObservationCodes:
    concept = _decoded(text)
    raw = concept.get("coding") if isinstance(concept, dict) else None
    items = [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []
    known = definitions()
    found: tuple[ConceptDefinition, str] | None = None
    clear = True
    numbers = [item.get("code") for item in items if system_of(item.get("system")) == LOINC]
    for number in numbers:
        meant = known.by_loinc.get(number) if isinstance(number, str) else None
        clear = clear and not (isinstance(number, str) and number in known.neighbours)
        if meant is not None:
            clear = clear and (found is None or found[0] is meant)
            found = found or (meant, str(number))
    codes = [item["code"] for item in items if isinstance(item.get("code"), str)]
    return ObservationCodes(
        concept=found[0] if found else None,
        loinc=found[1] if found else None,
        clear=clear,
        wanted=any(code in known.by_loinc or code in CONSCIOUSNESS_LOINC for code in codes),
        speaks_loinc=bool(numbers),
        consciousness=any(isinstance(n, str) and n in CONSCIOUSNESS_LOINC for n in numbers),
        systems=frozenset(item["system"] for item in items if isinstance(item.get("system"), str)),
        first_system=next((coding.system for coding in codings(concept) if coding.system), "no code system"),
    )


def fragment(raw: Raw) -> Any:
    """The value of a code or subject, decoded once for the same bytes: to be looked at, never changed."""
    text = bytes(raw)
    return _fragment(text) if len(text) <= _LONGEST_REMEMBERED else _decoded(text)


def _decoded(text: bytes) -> Any:
    try:
        value = decode_json(text) if text else None
    except InvalidInputError:  # a lone surrogate, which only the standard library reads
        value = json.loads(text)
    if isinstance(value, list):
        return [CodeableConcept(item) if isinstance(item, dict) else item for item in value]
    return CodeableConcept(value) if isinstance(value, dict) else value


_fragment = lru_cache(maxsize=8192)(_decoded)
