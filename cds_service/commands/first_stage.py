"""`riskcards train --stage1`: which first stage is meant, and a language model asked about the notes of a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cds_service.commands.learning import checked_name, counting, opened_models, say

if TYPE_CHECKING:
    from knowledge_index import Encoder
    from risk_model.language.first_stage import StageToFit
    from risk_model.language.language_stage import AskedModel
    from risk_model.study import Study
    from risk_model.tasks import Task

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


def stage_to_fit(name: str | None, study: Study, question: Task, out: Path) -> StageToFit | None:
    """Raises ModelArtifactError, MissingExtraError; LanguageModelError where the model cannot be asked to the end."""
    from knowledge_index.encoder import DEFAULT, available_threads, encoder_named
    from risk_model.language.first_stage import NoteRegression

    if name is None:
        return None
    encoder = encoder_named(DEFAULT, available_threads())
    return NoteRegression(encoder) if name == REGRESSION else _asked(name, study, question, answers_of(out), encoder)


def _asked(name: str, study: Study, question: Task, kept: Path, encoder: Encoder) -> AskedModel:
    from risk_model.language.language_stage import AskedModel
    from risk_model.language.named import identity
    from risk_model.language.opinions import asked_about_each

    model, mark = opened_models()(name), identity(checked_name(name))
    say(f"{name} is asked about {sum(map(len, study.windows))} passages of notes; its answers are kept in {kept}")
    with counting("passages answered") as progress:
        opinions = asked_about_each(model, study.windows, question, kept, progress)
    silent = sum(not patient.whole for patient in opinions)
    say(f"{len(opinions) - silent} of {len(opinions)} rows have its estimate; {kept} quotes notes: guard it like them")
    return AskedModel.of(name, mark, opinions, encoder)
