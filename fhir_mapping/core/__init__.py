"""Values, times, errors, reason codes and number formatting shared by the whole package."""

from fhir_mapping.core.formatting import format_number, format_quantity, format_unit
from fhir_mapping.core.reasons import NOTE_REASONS, REASONS
from fhir_mapping.core.times import moment, parse_instant, whole_years

__all__ = [
    "NOTE_REASONS",
    "REASONS",
    "format_number",
    "format_quantity",
    "format_unit",
    "moment",
    "parse_instant",
    "whole_years",
]
