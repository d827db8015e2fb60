"""Protocols of the literature: few-shot, EHR encoders, MEDS examples, rubric prompts. Never imported by serving."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.research.ehr_encoders import (
        BASELINES,
        EncoderProtocol,
        code_counts,
        embed_all,
        evaluate_task,
        results_document,
        settings_digest,
        usable_tasks,
    )
    from risk_model.research.ehr_encoders_report import protocol_report
    from risk_model.research.few_shot import (
        EMBEDDING_AND_COUNTS,
        RUBRIC,
        Representation,
        lightgbm_library,
        read_parts,
        run_few_shot,
    )
    from risk_model.research.meds_examples import (
        Examples,
        examples_by_definition,
        examples_from_label_files,
        label_files,
        prepare_examples,
        read_vocabulary,
    )
    from risk_model.research.meds_text import SERIALISERS
    from risk_model.research.rubric_prompt import example_patients, prompt_for_rubric

__all__ = [
    "BASELINES",
    "EMBEDDING_AND_COUNTS",
    "RUBRIC",
    "SERIALISERS",
    "EncoderProtocol",
    "Examples",
    "Representation",
    "code_counts",
    "embed_all",
    "evaluate_task",
    "example_patients",
    "examples_by_definition",
    "examples_from_label_files",
    "label_files",
    "lightgbm_library",
    "prepare_examples",
    "prompt_for_rubric",
    "protocol_report",
    "read_parts",
    "read_vocabulary",
    "results_document",
    "run_few_shot",
    "settings_digest",
    "usable_tasks",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "BASELINES": "risk_model.research.ehr_encoders",
        "EMBEDDING_AND_COUNTS": "risk_model.research.few_shot",
        "EncoderProtocol": "risk_model.research.ehr_encoders",
        "Examples": "risk_model.research.meds_examples",
        "RUBRIC": "risk_model.research.few_shot",
        "Representation": "risk_model.research.few_shot",
        "SERIALISERS": "risk_model.research.meds_text",
        "code_counts": "risk_model.research.ehr_encoders",
        "embed_all": "risk_model.research.ehr_encoders",
        "evaluate_task": "risk_model.research.ehr_encoders",
        "example_patients": "risk_model.research.rubric_prompt",
        "examples_by_definition": "risk_model.research.meds_examples",
        "examples_from_label_files": "risk_model.research.meds_examples",
        "label_files": "risk_model.research.meds_examples",
        "lightgbm_library": "risk_model.research.few_shot",
        "prepare_examples": "risk_model.research.meds_examples",
        "prompt_for_rubric": "risk_model.research.rubric_prompt",
        "protocol_report": "risk_model.research.ehr_encoders_report",
        "read_parts": "risk_model.research.few_shot",
        "read_vocabulary": "risk_model.research.meds_examples",
        "results_document": "risk_model.research.ehr_encoders",
        "run_few_shot": "risk_model.research.few_shot",
        "settings_digest": "risk_model.research.ehr_encoders",
        "usable_tasks": "risk_model.research.ehr_encoders",
    },
)
