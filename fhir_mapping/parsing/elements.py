"""Typed decoders for the elements that the mapping uses of each resource type; all other elements are skipped.

An Observation, of which a chart has thousands, becomes a struct whose code and subject stay bytes: a chart repeats the
same few hundred, so each is decoded once and cached (`fragment`, `observation_codes.coded`). Other mapped types become
dictionaries with the elements of `_ELEMENT_NAMES`; of unmapped types only id and subject are decoded. Property tests
compare charts read as bytes with whole dictionaries, so that no element is missing here.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypedDict, cast

import msgspec
import orjson

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.terminology.codes import CodeableConcept

Resource = dict[str, Any]
Raw = msgspec.Raw
_EMPTY: Final = Raw(b"")
_MAX_DIGITS = 400  # more than any float has
MAX_CACHED_BYTES = 2000  # real codes and subjects are shorter; keeps the caches small


# Elements of all other mapped types: subject and times, then codes and statuses, then elements of single types.
_ELEMENT_NAMES = (
    "resourceType", "id", "meta", "implicitRules", "language", "contained", "identifier", "status", "docStatus",
    "subject",
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
    "authenticator", "classHistory", "extension", "statusChanged", "dosageInstruction", "request", "prescription",
    "specimen", "_code",
)  # fmt: skip


class OwnerElements(msgspec.Struct, gc=False):
    """Id, subject, patient and focus: all that is decoded of an unmapped type."""

    id: Any = None
    subject: Raw = _EMPTY
    patient: Raw = _EMPTY
    focus: Any = None

    @classmethod
    def of(cls, resource: Resource) -> OwnerElements:
        """Returns the same elements of a decoded resource."""
        found = {name: Raw(_dumps(resource[name])) for name in ("subject", "patient") if name in resource}
        return cls(id=resource.get("id"), **found)


class ObservationPart(msgspec.Struct, gc=False):
    """Code and value[x] of an Observation or of one of its components."""

    code: Raw = _EMPTY
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
    """Returns how many of the value[x] elements are present."""
    values: tuple[Any, ...] = _values(part)
    return len(values) - values.count(None)


class Observation(ObservationPart, gc=False):
    """The elements used of an Observation. Elements of a wrong type are None, as if absent."""

    id: Any = None
    status: Any = None
    implicitRules: Any = None
    modifierExtension: Any = None
    subject: Raw = _EMPTY
    patient: Raw = _EMPTY
    focus: Any = None
    component: list[ObservationPart] = []
    hasMember: Any = None
    effectiveDateTime: Any = None
    effectiveInstant: Any = None
    effectivePeriod: Any = None
    effectiveTiming: Any = None
    issued: Any = None
    specimen: Any = None
    bodySite: Any = None
    contained: Any = None
    encounter: Raw = _EMPTY
    device: Raw = _EMPTY

    @classmethod
    def of(cls, resource: Resource) -> Observation:
        """Returns the same elements of a decoded resource."""
        found = {name: value for name, value in resource.items() if name in _OBSERVATION and name != "component"}
        for name in ("code", "subject", "patient", "encounter", "device"):
            if name in found:
                found[name] = Raw(_dumps(found[name]))
        listed = resource.get("component")
        parts = [_part(item) for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        return cls(component=parts, **found)

    @property
    def parts(self) -> tuple[ObservationPart, ...]:
        """The Observation itself and its components."""
        return (self, *self.component) if self.component else (self,)


# CodeableConcepts of which a chart repeats the same few; decoded once and cached.
_CONCEPTS = frozenset(
    {"code", "type", "class", "serviceType", "priority", "clinicalStatus", "verificationStatus", "reasonCode",
     "medicationCodeableConcept"}
)  # fmt: skip
_ELEMENTS = cast(Any, TypedDict)(
    "_ELEMENTS", dict.fromkeys(_ELEMENT_NAMES, Any) | dict.fromkeys(_CONCEPTS, Raw), total=False
)
OWNER = msgspec.json.Decoder(OwnerElements)
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
    except TypeError:  # not from JSON: integers over 64 bits, keys that are not strings, lone surrogates
        return json.dumps(value, skipkeys=True, default=str).encode()


def decode_json(text: bytes) -> Any:
    """Returns the decoded JSON; a number too large for a float, such as 1e400, becomes infinity and is refused later.

    Raises InvalidInputError if the text is not JSON.
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
    return int(digits) if len(digits) < _MAX_DIGITS else math.inf


def _no_constant(name: str) -> float:
    raise ValueError(name)


def elements(raw: Raw | bytes) -> Resource:
    """Returns the used elements of a mapped type other than Observation.

    Raises msgspec.DecodeError for a number too large for a float.
    """
    found = _DECODER.decode(raw)
    for name in _CONCEPTS & found.keys():
        found[name] = fragment(found[name])
    return found


def fragment(raw: Raw) -> Any:
    """Returns the decoded value of a code or subject; cached by its bytes, so it must not be modified."""
    text = bytes(raw)
    return _fragment(text) if len(text) <= MAX_CACHED_BYTES else decoded_value(text)


def decoded_value(text: bytes) -> Any:
    """Returns the decoded JSON of a code or subject; None for no bytes."""
    try:
        value = decode_json(text) if text else None
    except InvalidInputError:  # a lone surrogate, which only the standard library accepts
        value = json.loads(text)
    if isinstance(value, list):
        return [CodeableConcept(item) if isinstance(item, dict) else item for item in value]
    return CodeableConcept(value) if isinstance(value, dict) else value


_fragment = lru_cache(maxsize=8192)(decoded_value)
