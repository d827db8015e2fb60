"""`riskcards train --stage1`: which first stage is meant, and a language model asked about the notes of a cohort."""

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
    """What --stage1 says; wrong use where it is no language model's name, or the regression has nothing to read."""
    if name is None:
        return None
    if name == REGRESSION:
        if not note_reader:
            raise click.UsageError("--stage1 needs --note-reader: it learns from what the notes say")
        return name
    if checked_name(name).kind == "rules":
        raise click.UsageError("--stage1 rules: say --stage1 alone for a regression over what the rules read")
    return name


def answers_of(out: Path) -> Path:
    """Where the language model's answers are kept beside a model folder."""
    return out.with_name(f"{out.name}.answers.jsonl")


def exclude_tuning_patients(labelled: LabelledCohort, name: str | None) -> LabelledCohort:
    """The rows of patients that a first stage's adapter was not tuned among: what it says of the others tells their
    outcomes. Raises TrainingError where none is left, ModelArtifactError for an altered adapter."""
    from risk_model import TrainingError
    from risk_model.llm import check_adapter
    from risk_model.llm_tuning import learned_from

    adapter = None if name in {None, REGRESSION} else checked_name(str(name)).whole().adapter
    if adapter is None:
        return labelled
    manifest = check_adapter(Path(adapter))
    taught = learned_from(manifest, [row.person for row in labelled.rows])
    taught |= learned_from(manifest, [row.subject_id for row in labelled.rows])
    if taught.all():
        raise TrainingError("the adapter was tuned among all these patients: tune one on a --share, or on others")
    if taught.any():
        report_line(f"{taught.sum()} of {len(taught)} rows left out: the adapter was tuned among their patients")
    return replace(labelled, rows=tuple(row for row, was in zip(labelled.rows, taught, strict=True) if not was))


def stage_of(model: RiskModel) -> str | None:
    """Where the language model lies that is a model's first stage; None where none is. Raises ModelArtifactError."""
    from cds_service.background.language_models import stage1_name
    from cds_service.commands.shared.opened import opened_settings

    return None if model.asks is None else stage1_name(opened_settings(), model)


def stage_to_fit(name: str | None, study: Dataset, question: Task, out: Path) -> StageToFit | None:
    """Raises ModelArtifactError, MissingExtraError; LanguageModelError where the model cannot be asked to the end."""
    from knowledge_index.encoders import DEFAULT, available_threads, encoder_named
    from risk_model.first_stage import NoteRegression

    if name is None:
        return None
    encoder = encoder_named(DEFAULT, available_threads())
    return NoteRegression(encoder) if name == REGRESSION else _asked(name, study, question, answers_of(out), encoder)


def _asked(name: str, study: Dataset, question: Task, kept: Path, encoder: Encoder) -> AskedModel:
    from risk_model.first_stage import AskedModel, ask_about_patients
    from risk_model.llm import model_identity

    model, mark = opened_models()(name), model_identity(checked_name(name))
    report_line(
        f"{name} is asked about {sum(map(len, study.windows))} passages of notes; its answers are kept in {kept}"
    )
    with counting("passages answered") as progress:
        opinions = ask_about_patients(model, study.windows, question, kept, progress)
    silent = sum(not patient.whole for patient in opinions)
    report_line(
        f"{len(opinions) - silent} of {len(opinions)} rows have its estimate; {kept} quotes notes: guard it like them"
    )
    return AskedModel.of(name, mark, opinions, encoder)
