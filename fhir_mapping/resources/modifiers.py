"""Removes elements with a modifierExtension and resources with implicitRules, which may change their meaning.

FHIR R4 extensibility (https://hl7.org/fhir/R4/extensibility.html#modifierExtension).
"""

from __future__ import annotations

from typing import Any

import orjson

from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.resources.measurements import refusals

# Elements independent of each other: removing one leaves the others true.
_SEPARABLE = frozenset(
    {
        "component", "content", "section", "location", "participant", "referenceRange", "relatesTo", "presentedForm",
        "hospitalization", "admission", "diagnosis", "classHistory", "statusHistory", "statementHistory", "stage",
        "evidence", "performer", "attester", "event",
    }
)  # fmt: skip
# `contained` is checked when a reference is resolved; the others have no clinical meaning.
_NOT_CLINICAL = frozenset({"contained", "text", "meta", "extension"})


def usable_part(
    resource: Resource, source: str, refused: list[Refusal], *, unmodified: bool = False
) -> Resource | None:
    """Returns the resource without unusable parts, each listed in `refused`; None if nothing of it may be used.

    `unmodified` means that it is known to have no modifierExtension, so that it need not be searched.
    """
    if resource.get("implicitRules"):
        refused.extend(refusals(resource, source, "implicit-rules"))
        return None
    if resource.get("modifierExtension"):
        refused.extend(refusals(resource, source, "modifier-extension"))
        return None
    if unmodified or not _may_be_modified(resource):
        return resource
    kept: Resource = {}
    for name, value in resource.items():
        if name in _NOT_CLINICAL or not _is_modified(value):
            kept[name] = value
            continue
        if name not in _SEPARABLE:
            refused.extend(refusals(resource, source, "modifier-extension"))
            return None
        items = value if isinstance(value, list) else [value]
        kept[name] = [item for item in items if not _is_modified(item)]
        removed = {
            "resourceType": resource["resourceType"],
            "component": [item for item in items if _is_modified(item)],
        }
        refused.extend(refusals(removed, f"{source}", "modifier-extension"))
    return kept


def _may_be_modified(resource: Resource) -> bool:
    """Whether the word occurs anywhere in the resource: searching its bytes is faster than walking it."""
    try:
        return b'"modifierExtension"' in orjson.dumps(resource)
    except TypeError:  # not from JSON: integers over 64 bits, keys that are not strings
        return True


def _is_modified(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if item.get("modifierExtension"):
                return True
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False
