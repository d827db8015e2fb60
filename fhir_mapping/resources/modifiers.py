"""modifierExtension and implicitRules: what may turn a meaning round, and is not understood, is not used.

FHIR R4 extensibility (https://hl7.org/fhir/R4/extensibility.html#modifierExtension).
"""

from __future__ import annotations

from typing import Any

import orjson

from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.resources.measurements import refusals

# Parts that stand for themselves: one that is not understood leaves the others true.
_SEPARABLE = frozenset(
    {
        "component", "content", "section", "location", "participant", "referenceRange", "relatesTo", "presentedForm",
        "hospitalization", "admission", "diagnosis", "classHistory", "statusHistory", "statementHistory", "stage",
        "evidence", "performer", "attester", "event",
    }
)  # fmt: skip
# `contained` is looked at where it is followed; the others carry no meaning of their own.
_MEANINGLESS = frozenset({"contained", "text", "meta", "extension"})


def understood(resource: Resource, source: str, refused: list[Refusal], *, unmodified: bool = False) -> Resource | None:
    """The resource without the parts we may not use, each named in `refused`; None when nothing of it may be used.

    `unmodified` says that no modifierExtension is in it, so that it need not be looked for.
    """
    if resource.get("implicitRules"):
        refused.extend(refusals(resource, source, "implicit-rules"))
        return None
    if resource.get("modifierExtension"):
        refused.extend(refusals(resource, source, "modifier-extension"))
        return None
    if unmodified or not _mentioned(resource):
        return resource
    clean: Resource = {}
    for name, value in resource.items():
        if name in _MEANINGLESS or not _carries(value):
            clean[name] = value
            continue
        if name not in _SEPARABLE:
            refused.extend(refusals(resource, source, "modifier-extension"))
            return None
        items = value if isinstance(value, list) else [value]
        clean[name] = [item for item in items if not _carries(item)]
        lost = {"resourceType": resource["resourceType"], "component": [item for item in items if _carries(item)]}
        refused.extend(refusals(lost, f"{source}", "modifier-extension"))
    return clean


def _mentioned(resource: Resource) -> bool:
    """Whether the word stands anywhere in the resource: one pass over its bytes is cheaper than a walk."""
    try:
        return b'"modifierExtension"' in orjson.dumps(resource)
    except TypeError:  # not from JSON: integers over 64 bits, keys that are no strings
        return True


def _carries(value: Any) -> bool:
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
