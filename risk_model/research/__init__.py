"""Protocols of the literature: few-shot, EHR encoders, MEDS examples, rubric prompts. Never imported by serving."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.research.ablations import ABLATIONS, ComparedEncoder, compared_encoders
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
    from risk_model.research.ehrshot_shots import read_shots, shot_files
    from risk_model.research.ehrshot_tasks import OFFICIAL, Instructions, read_instructions, tasks_named
    from risk_model.research.few_shot import (
        EMBEDDING_AND_COUNTS,
        RUBRIC,
        FewShotResult,
        Representation,
        lightgbm_library,
        read_parts,
        run_few_shot,
    )
    from risk_model.research.given_vectors import GivenVectors, named_file
    from risk_model.research.meds_examples import (
        Examples,
        by_task,
        examples_by_definition,
        examples_from_label_files,
        label_files,
        prepare_examples,
        read_vocabulary,
    )
    from risk_model.research.meds_markdown import PARTS, SERIALISERS
    from risk_model.research.rubric_prompt import example_patients, prompt_for_rubric

__all__ = [
    "ABLATIONS",
    "BASELINES",
    "EMBEDDING_AND_COUNTS",
    "OFFICIAL",
    "PARTS",
    "RUBRIC",
    "SERIALISERS",
    "ComparedEncoder",
    "EncoderProtocol",
    "Examples",
    "FewShotResult",
    "GivenVectors",
    "Instructions",
    "Representation",
    "by_task",
    "code_counts",
    "compared_encoders",
    "embed_all",
    "evaluate_task",
    "example_patients",
    "examples_by_definition",
    "examples_from_label_files",
    "label_files",
    "lightgbm_library",
    "named_file",
    "prepare_examples",
    "prompt_for_rubric",
    "protocol_report",
    "read_instructions",
    "read_parts",
    "read_shots",
    "read_vocabulary",
    "results_document",
    "run_few_shot",
    "settings_digest",
    "shot_files",
    "tasks_named",
    "usable_tasks",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "ABLATIONS": "risk_model.research.ablations",
        "BASELINES": "risk_model.research.ehr_encoders",
        "ComparedEncoder": "risk_model.research.ablations",
        "EMBEDDING_AND_COUNTS": "risk_model.research.few_shot",
        "EncoderProtocol": "risk_model.research.ehr_encoders",
        "Examples": "risk_model.research.meds_examples",
        "FewShotResult": "risk_model.research.few_shot",
        "GivenVectors": "risk_model.research.given_vectors",
        "Instructions": "risk_model.research.ehrshot_tasks",
        "OFFICIAL": "risk_model.research.ehrshot_tasks",
        "PARTS": "risk_model.research.meds_markdown",
        "RUBRIC": "risk_model.research.few_shot",
        "Representation": "risk_model.research.few_shot",
        "SERIALISERS": "risk_model.research.meds_markdown",
        "by_task": "risk_model.research.meds_examples",
        "code_counts": "risk_model.research.ehr_encoders",
        "compared_encoders": "risk_model.research.ablations",
        "embed_all": "risk_model.research.ehr_encoders",
        "evaluate_task": "risk_model.research.ehr_encoders",
        "example_patients": "risk_model.research.rubric_prompt",
        "examples_by_definition": "risk_model.research.meds_examples",
        "examples_from_label_files": "risk_model.research.meds_examples",
        "label_files": "risk_model.research.meds_examples",
        "lightgbm_library": "risk_model.research.few_shot",
        "named_file": "risk_model.research.given_vectors",
        "prepare_examples": "risk_model.research.meds_examples",
        "prompt_for_rubric": "risk_model.research.rubric_prompt",
        "protocol_report": "risk_model.research.ehr_encoders_report",
        "read_instructions": "risk_model.research.ehrshot_tasks",
        "read_parts": "risk_model.research.few_shot",
        "read_shots": "risk_model.research.ehrshot_shots",
        "read_vocabulary": "risk_model.research.meds_examples",
        "results_document": "risk_model.research.ehr_encoders",
        "run_few_shot": "risk_model.research.few_shot",
        "settings_digest": "risk_model.research.ehr_encoders",
        "shot_files": "risk_model.research.ehrshot_shots",
        "tasks_named": "risk_model.research.ehrshot_tasks",
        "usable_tasks": "risk_model.research.ehr_encoders",
    },
)
