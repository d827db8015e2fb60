"""Errors of the mapping room.

FhirMappingError
├── InvalidInputError        the bytes are not the JSON, Bundle, list or NDJSON we read
├── PatientNotFoundError     no Patient, or not the one asked for
└── ForeignPatientError      a clinical resource belongs to somebody else: nothing may be computed from this data
"""

from __future__ import annotations


class FhirMappingError(Exception):
    """Base of every error this package raises on purpose."""


class InvalidInputError(FhirMappingError, ValueError):
    """The input cannot be read as FHIR JSON.

    `position` says where: a byte offset, a line of NDJSON or a path such as `entry[3].resource`.
    """

    def __init__(self, message: str, *, position: str | None = None) -> None:
        super().__init__(message if position is None else f"{message} (at {position})")
        self.position = position


class PatientNotFoundError(FhirMappingError, LookupError):
    """The data hold no Patient, several without a choice, or not the one asked for."""

    def __init__(self, message: str, *, found: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.found = found


class ForeignPatientError(FhirMappingError):
    """Another patient's clinical resource stands in this patient's data: a safety stop, not a row to skip."""

    def __init__(self, message: str, *, source: str) -> None:
        super().__init__(message)
        self.source = source
