"""Tuning a local language model to read notes: examples, LoRA, checkpoints."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.llm_tuning.example_sources import examples_from_notes, generated_examples
    from risk_model.llm_tuning.examples import deduplicated
    from risk_model.llm_tuning.lora import STYLES, TuningSettings, TuningSplit, tune
    from risk_model.llm_tuning.risk_examples import (
        WindowExamples,
        labelled_notes,
        learned_from,
        place_of,
        select_windows,
    )

__all__ = [
    "STYLES",
    "TuningSettings",
    "TuningSplit",
    "WindowExamples",
    "deduplicated",
    "examples_from_notes",
    "generated_examples",
    "labelled_notes",
    "learned_from",
    "place_of",
    "select_windows",
    "tune",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "STYLES": "risk_model.llm_tuning.lora",
        "TuningSettings": "risk_model.llm_tuning.lora",
        "TuningSplit": "risk_model.llm_tuning.lora",
        "WindowExamples": "risk_model.llm_tuning.risk_examples",
        "deduplicated": "risk_model.llm_tuning.examples",
        "examples_from_notes": "risk_model.llm_tuning.example_sources",
        "generated_examples": "risk_model.llm_tuning.example_sources",
        "labelled_notes": "risk_model.llm_tuning.risk_examples",
        "learned_from": "risk_model.llm_tuning.risk_examples",
        "place_of": "risk_model.llm_tuning.risk_examples",
        "select_windows": "risk_model.llm_tuning.risk_examples",
        "tune": "risk_model.llm_tuning.lora",
    },
)
