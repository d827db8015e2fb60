"""Language models: local, remote, quantised, adapted, and by name."""

from risk_model.llm.adapter import base_fingerprint, check_adapter
from risk_model.llm.backend import LanguageModel
from risk_model.llm.llama_model import LlamaLanguageModel
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm.registry import (
    RULES,
    ReaderName,
    ReaderNameError,
    check_installed,
    find_model,
    language_model,
    model_fingerprint,
    model_identity,
)
from risk_model.llm.remote_model import Transport
from risk_model.llm.weights import find_weights

__all__ = [
    "RULES",
    "LanguageModel",
    "LlamaLanguageModel",
    "LocalLanguageModel",
    "ReaderName",
    "ReaderNameError",
    "Transport",
    "base_fingerprint",
    "check_adapter",
    "check_installed",
    "find_model",
    "find_weights",
    "language_model",
    "model_fingerprint",
    "model_identity",
]
