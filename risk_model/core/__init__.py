"""Shared by all of risk_model: tasks, values, errors, and signed model folders."""

from risk_model.core.artifacts import check_new_folder, open_manifest
from risk_model.core.errors import LanguageModelError

__all__ = [
    "LanguageModelError",
    "check_new_folder",
    "open_manifest",
]
