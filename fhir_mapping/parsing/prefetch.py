"""The prefetch of a CDS Hooks request as FHIR resources: what was sent, what is missing, and what is not FHIR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.resource_reader import Bundle, ParsedInput, ResourceEntry, read_bundle

_ENCOUNTER = "Encounter"


class FhirPrefetch:
    """FhirPrefetch({"patient": {...}, "labs": bundle}, {"patient": "Patient", "labs": "Observation"})

    A value is a resource or Bundle as parsed JSON, or a Bundle whose resources are still bytes (`unread`). Each key is
    read once, when it is first asked for, and each resource is decoded once. `expected` maps every key to the type of
    its resources.
    """

    __slots__ = ("_read", "_values", "expected")

    def __init__(self, values: Mapping[str, Any], expected: Mapping[str, str]) -> None:
        self.expected = dict(expected)
        self._values = {key: values.get(key) for key in expected}
        self._read: dict[str, ParsedInput] = {}

    def replace(self, values: Mapping[str, Any], expected: Mapping[str, str] | None = None) -> FhirPrefetch:
        """A copy with other values for some keys, or further keys; values already read are kept."""
        other = FhirPrefetch({**self._values, **values}, {**self.expected, **(expected or {})})
        other._read = {key: reading for key, reading in self._read.items() if key not in values}
        return other

    def is_missing(self, key: str) -> bool:
        """Whether the value is neither a Bundle nor a resource of the expected type: the key counts as not fetched.

        >>> FhirPrefetch({"labs": {"resourceType": "OperationOutcome"}}, {"labs": "Observation"}).is_missing("labs")
        True
        """
        value = self._values.get(key)
        if isinstance(value, dict):
            return value.get("resourceType") not in ("Bundle", self.expected[key])
        return not isinstance(value, Bundle)

    def is_resource(self, key: str) -> bool:
        """Whether the value is an object or nothing; any other JSON is invalid input, not a gap."""
        return self._values.get(key) is None or isinstance(self._values[key], dict | Bundle)

    def links(self, key: str) -> Any:
        """`Bundle.link` of a key as it was sent; None where the value is not a Bundle."""
        value = self._values.get(key)
        if isinstance(value, Bundle):
            return value.link
        return value.get("link") if isinstance(value, dict) and value.get("resourceType") == "Bundle" else None

    def to_json(self, key: str) -> Any:
        """The value of a key as parsed JSON, in full; None without a value."""
        value = self._values.get(key)
        return value.parsed() if isinstance(value, Bundle) else value

    def measured(self, key: str) -> tuple[int | None, int]:
        """The number of entries of a key's Bundle, None for a single resource, and the bytes of the value's JSON.

        >>> FhirPrefetch({"patient": {"resourceType": "Patient"}}, {"patient": "Patient"}).measured("patient")
        (None, 26)
        """
        value = self._values.get(key)
        if value is None:
            return None, 0
        size = len(msgspec.json.encode(value))
        if isinstance(value, Bundle):
            return len(value.entry or ()), size
        if not isinstance(value, dict) or value.get("resourceType") != "Bundle":
            return None, size
        entries = value.get("entry")
        return len(entries) if isinstance(entries, list) else 0, size

    def resources(self, key: str) -> Iterator[Resource]:
        """The resources of a key, with the elements that are read of their types; none where it cannot be read."""
        try:
            entries = self.read(key).entries
        except InvalidInputError:
            return
        for entry in entries:
            with suppress(InvalidInputError):
                yield entry.elements

    def encounters(self) -> Iterator[Resource]:
        """The resources of every key that expects Encounters; a search may have included other types."""
        for key, resource_type in self.expected.items():
            if resource_type == _ENCOUNTER:
                yield from self.resources(key)

    def encounter(self, identifier: str | None) -> Resource | None:
        """The Encounter of that id; None where it was not sent, or without an id."""
        if identifier is None:
            return None
        named = (each for each in self.encounters() if each.get("id") == identifier)
        return next((each for each in named if each["resourceType"] == _ENCOUNTER), None)

    def read(self, key: str) -> ParsedInput:
        """The entries of one key; its type is among `incomplete` where the key has no value.

        Raises InvalidInputError for a value that is not a FHIR resource.
        """
        if key not in self._read:
            self._read[key] = _read_value(self._values.get(key), key, self.expected[key])
        return self._read[key]


def _read_value(value: Any, key: str, resource_type: str) -> ParsedInput:
    kind = value.get("resourceType") if isinstance(value, dict) else None
    if isinstance(value, Bundle) or (isinstance(value, dict) and kind == "Bundle"):
        return read_bundle(value, name=f"prefetch.{key}", resource_type=resource_type)
    if isinstance(value, dict) and isinstance(kind, str) and kind != "OperationOutcome":
        return ParsedInput((ResourceEntry(value),))
    if value is None or value == {} or kind == "OperationOutcome":
        return ParsedInput(
            (), (Refusal(f"prefetch.{key}", "not-fetched"),), frozenset({resource_type}), frozenset({resource_type})
        )
    raise InvalidInputError("the prefetch value is not a FHIR resource", position=f"prefetch.{key}")


def read_prefetch(prefetch: FhirPrefetch | Mapping[str, Any], expected: Mapping[str, str]) -> ParsedInput:
    """The entries of every expected key; a type whose value is missing is among `incomplete`.

    `expected` maps each prefetch key to its resource type. Raises InvalidInputError for a value that is not a FHIR
    resource.
    """
    known = prefetch if isinstance(prefetch, FhirPrefetch) else FhirPrefetch(prefetch, expected)
    return ParsedInput.merged(known.read(key) for key in expected)
