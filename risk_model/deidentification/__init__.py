"""Removes what identifies a patient from records, notes and prompts (HIPAA Safe Harbor, docs/deidentification.md)."""

from risk_model.deidentification.categories import SAFE_HARBOR, Category
from risk_model.deidentification.deidentifier import MINIMUM_KEY, Deidentifier
from risk_model.deidentification.text import DeidentifiedText, Replacement, deidentified

__all__ = [
    "MINIMUM_KEY",
    "SAFE_HARBOR",
    "Category",
    "DeidentifiedText",
    "Deidentifier",
    "Replacement",
    "deidentified",
]
