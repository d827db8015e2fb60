"""Exceptions of fhir_mapping.

FhirMappingError
├── InvalidInputError        the input is not valid JSON, or not a Bundle, resource, list or NDJSON
├── PatientNotFoundError     no Patient, several without a choice, or not the one requested
└── ForeignPatientError      a clinical resource belongs to another patient: nothing is computed from these data
"""

from __future__ import annotations


class FhirMappingError(Exception):
    """Base class of the errors this package raises on purpose."""


class InvalidInputError(FhirMappingError, ValueError):
    """The input cannot be read as FHIR JSON.

    `position` is where: a byte offset, a line of NDJSON or a path such as `entry[3].resource`.
    """

    def __init__(self, message: str, *, position: str | None = None) -> None:
        super().__init__(message if position is None else f"{message} (at {position})")
        self.position = position


class PatientNotFoundError(FhirMappingError, LookupError):
    """The data hold no Patient, several without a choice, or not the one requested.

    `found` lists the ids that are there.
    """

    def __init__(self, message: str, *, found: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.found = found


class ForeignPatientError(FhirMappingError):
    """The data contain another patient's clinical resource: a safety stop, not a row to skip.

    `source` is its key, such as `Observation/o1`.
    """

    def __init__(self, message: str, *, source: str) -> None:
        super().__init__(message)
        self.source = source
