"""The prefetch of a CDS Hooks request to entries: what came, what did not, and what is no FHIR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.resource_reader import Bundle, ParsedInput, ResourceEntry, read_bundle


def read_prefetch(prefetch: Mapping[str, Any], expected: Mapping[str, str]) -> ParsedInput:
    """The entries of every expected key; a type whose value did not come is among `incomplete`.

    Raises InvalidInputError for a value that is no FHIR resource.
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
            raise InvalidInputError("a prefetch value that is no FHIR resource", position=f"prefetch.{key}")
    return ParsedInput(tuple(entries), tuple(refused), frozenset(incomplete))
