"""Validates resources against FHIR R4 or R5 for `map --strict`; each fault has its FHIR path.

    Validator().faults(resource) -> (FhirFault(path="Observation.code", message="Field required", version="R4"), ...)

Uses fhir.resources, about twenty times slower than reading only the used elements; never on the hot path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fhir_mapping.parsing.resource_reader import Resource

Version = Literal["R4", "R5"]


@dataclass(frozen=True, slots=True)
class FhirFault:
    """One fault; the message never contains the value."""

    path: str
    message: str
    version: Version


class Validator:
    """Validates resources in one FHIR version, or (`version=None`) in the one with fewer faults, R4 before R5.

    R4 is checked by the models of R4B, which changed none of the clinical core resources.
    """

    def __init__(self, version: Version | None = None) -> None:
        from fhir.resources import R4B, get_fhir_model_class
        from pydantic import ValidationError

        self._models: dict[Version, Callable[[str], Any]] = {"R4": R4B.get_fhir_model_class, "R5": get_fhir_model_class}
        self._invalid = ValidationError
        self._versions: tuple[Version, ...] = (version,) if version else ("R4", "R5")

    def faults(self, resource: Resource) -> tuple[FhirFault, ...]:
        """Returns every fault of a resource; none if it is valid in one of the requested versions."""
        found: list[tuple[FhirFault, ...]] = []
        for version in self._versions:
            found.append(self._faults(resource, version))
            if not found[-1]:
                return ()
        return min(found, key=len)

    def _faults(self, resource: Resource, version: Version) -> tuple[FhirFault, ...]:
        kind = str(resource.get("resourceType"))
        try:
            model = self._models[version](kind)
        except (ValueError, KeyError, LookupError):
            return (FhirFault(kind, f"not a resource type of FHIR {version}", version),)
        try:
            model.model_validate(resource)
        except self._invalid as error:
            return tuple(
                FhirFault(_path(kind, fault["loc"]), fault["msg"].removeprefix("Value error, "), version)
                for fault in error.errors(include_url=False, include_input=False, include_context=False)
            )
        return ()


def _path(kind: str, location: tuple[int | str, ...]) -> str:
    """
    >>> _path("Observation", ("component", 0, "code"))
    'Observation.component[0].code'
    """
    return kind + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
