"""Shared by all of risk_model: tasks, values, errors, and signed model folders."""

from risk_model.core.artifacts import open_manifest
from risk_model.core.errors import LanguageModelError

__all__ = [
    "LanguageModelError",
    "open_manifest",
]
