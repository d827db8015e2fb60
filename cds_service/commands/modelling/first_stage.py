"""`riskcards train --stage1`: selects the first stage and queries its language model about a cohort's notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cds_service.commands.shared.model_sources import checked_name, counting, opened_models, report_line

if TYPE_CHECKING:
    from knowledge_index import Encoder
    from risk_model import LabelledCohort, RiskModel, Task
    from risk_model.evaluation import Dataset
    from risk_model.first_stage import AskedModel, StageToFit

REGRESSION = "regression"


def checked_stage(name: str | None, note_reader: str | None) -> str | None:
    """Validates --stage1. Raises UsageError for an unknown model, or for the regression without a note reader."""
    if name is None:
        return None
    if name == REGRESSION:
        if not note_reader:
            raise click.UsageError("--stage1 needs --note-reader, as it learns from findings in notes")
        return name
    if checked_name(name).kind == "rules":
        raise click.UsageError(
            "--stage1 rules: give --stage1 without NAME for a regression over the findings of the rules"
        )
    return name


def answers_of(out: Path) -> Path:
    """The file of cached language model answers beside a model folder."""
    return out.with_name(f"{out.name}.answers.jsonl")


def exclude_tuning_patients(labelled: LabelledCohort, name: str | None) -> LabelledCohort:
    """Returns the rows of patients not used for tuning: the adapter's answers leak the outcomes of tuning patients.

    Raises TrainingError if none is left, ModelArtifactError for an altered adapter.
    """
    from risk_model import TrainingError
    from risk_model.llm import check_adapter
    from risk_model.llm_tuning import learned_from

    adapter = None if name in {None, REGRESSION} else checked_name(str(name)).whole().adapter
    if adapter is None:
        return labelled
    manifest = check_adapter(Path(adapter))
    in_tuning = learned_from(manifest, [row.person for row in labelled.rows])
    in_tuning |= learned_from(manifest, [row.subject_id for row in labelled.rows])
    if in_tuning.all():
        raise TrainingError("the adapter was tuned among all these patients: tune one on a --share, or on others")
    if in_tuning.any():
        report_line(f"{in_tuning.sum()} of {len(in_tuning)} rows left out: the adapter was tuned on their patients")
    return replace(labelled, rows=tuple(row for row, was in zip(labelled.rows, in_tuning, strict=True) if not was))


def stage_of(model: RiskModel) -> str | None:
    """Returns the name of a model's first-stage language model, or None. Raises ModelArtifactError."""
    from cds_service.background.language_models import stage1_name
    from cds_service.commands.shared.opened import opened_settings

    return None if model.asks is None else stage1_name(opened_settings(), model)


def stage_to_fit(
    name: str | None, study: Dataset, question: Task, out: Path, *, evidence: bool = False
) -> StageToFit | None:
    """Returns the first stage to fit, or None. Raises ModelArtifactError, MissingExtraError, LanguageModelError."""
    from knowledge_index.encoders import DEFAULT, available_threads, encoder_named
    from risk_model.first_stage import NoteRegression

    if name is None:
        return None
    encoder = encoder_named(DEFAULT, available_threads())
    if name == REGRESSION:
        return NoteRegression(encoder)
    return _asked(name, study, question, answers_of(out), encoder, evidence)


def _asked(name: str, study: Dataset, question: Task, kept: Path, encoder: Encoder, evidence: bool) -> AskedModel:
    from risk_model.first_stage import AskedModel, ask_about_patients
    from risk_model.llm import model_identity

    model, mark = opened_models()(name), model_identity(checked_name(name))
    report_line(f"{name} reads {sum(map(len, study.windows))} passages of notes; its answers are cached in {kept}")
    with counting("passages answered") as progress:
        opinions = ask_about_patients(model, study.windows, question, kept, progress)
    unanswered = sum(not patient.whole for patient in opinions)
    report_line(f"{len(opinions) - unanswered} of {len(opinions)} rows have its estimate; {kept} holds patient data")
    return AskedModel.of(name, mark, opinions, encoder, evidence=evidence)
