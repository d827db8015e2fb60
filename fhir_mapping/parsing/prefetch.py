"""Reads the prefetch of a CDS Hooks request: entries, and the resource types that were not fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.resource_reader import Bundle, ParsedInput, ResourceEntry, read_bundle


def read_prefetch(prefetch: Mapping[str, Any], expected: Mapping[str, str]) -> ParsedInput:
    """Returns the entries of every expected key; a type without a value is in `incomplete`.

    `expected` maps each prefetch key to its resource type. Raises InvalidInputError for a value that is not a FHIR
    resource.
    """
    entries: list[ResourceEntry] = []
    refused: list[Refusal] = []
    incomplete: set[str] = set()
    for key, resource_type in expected.items():
        value = prefetch.get(key)
        kind = value.get("resourceType") if isinstance(value, dict) else None
        if isinstance(value, Bundle) or (isinstance(value, dict) and kind == "Bundle"):
            reading = read_bundle(value, name=f"prefetch.{key}", resource_type=resource_type)
            entries.extend(reading.entries)
            refused.extend(reading.refused)
            incomplete |= reading.incomplete
        elif isinstance(value, dict) and isinstance(kind, str) and kind != "OperationOutcome":
            entries.append(ResourceEntry(value))
        elif value is None or value == {} or kind == "OperationOutcome":
            incomplete.add(resource_type)
            refused.append(Refusal(f"prefetch.{key}", "not-fetched"))
        else:
            raise InvalidInputError("the prefetch value is not a FHIR resource", position=f"prefetch.{key}")
    return ParsedInput(tuple(entries), tuple(refused), frozenset(incomplete))
