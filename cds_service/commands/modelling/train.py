"""`riskcards train`: trains a model on a cohort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from artifact_store import Workers
from cds_service.commands.modelling.first_stage import REGRESSION, checked_stage, exclude_tuning_patients, stage_to_fit
from cds_service.commands.modelling.learners import LEARNERS
from cds_service.commands.shared.model_sources import (
    ENCODER_HELP,
    READER_HELP,
    counting,
    literature,
    open_sources,
    report_line,
)
from cds_service.commands.shared.parallel import engine_option, workers_option

if TYPE_CHECKING:
    from risk_model import LabelledCohort
    from risk_model.evaluation import Dataset, DatasetSources

_COHORT = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(name="train")
@click.option(
    "--task", required=True, help="The task the cohort was built for: readmission_30d, my_task, my_task.yaml."
)
@click.option("--cohort", required=True, type=_COHORT, help="Folder of `riskcards cohort build`.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The model folder.")
@click.option("--encoder", metavar="NAME", help=f"Also use an embedding of the record as input. {ENCODER_HELP}")
@click.option(
    "--serialiser", default="codes", show_default=True, type=click.Choice(["codes", "markdown"]),
    help="With --encoder: how a record becomes text.",
)  # fmt: skip
@click.option("--note-reader", help=f"Also use findings in notes as input, read by {READER_HELP}")
@click.option(
    "--evidence", is_flag=True, help="Also use retrieved literature as input; needs --encoder and --note-reader; slow."
)
@click.option(
    "--stage1", is_flag=False, flag_value=REGRESSION, metavar="[NAME]",
    help="Also use a first-stage estimate from notes, with reasons: without NAME a regression over the findings of "
    "--note-reader, with NAME the estimate of that language model (smollm2, a model folder, https://HOST/v1#MODEL).",
)  # fmt: skip
@click.option(
    "--stage1-evidence/--no-stage1-evidence", default=True, show_default=True,
    help="With --stage1 NAME: show it the patient's problems and numbered literature about them.",
)  # fmt: skip
@click.option(
    "--rubric", "rubric_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also use the answers to a rubric as input; see `riskcards rubric`.",
)  # fmt: skip
@click.option(
    "--learner", default=LEARNERS[0], show_default=True, type=click.Choice(LEARNERS), help="See `riskcards ablate`."
)
@click.option("--search", is_flag=True, help="Choose the learner's settings by cross-validation; slower.")
@click.option("--model-id", help="Name of the model.  [default: TASK-local]")
@click.option("--bootstraps", default=1000, show_default=True, type=click.IntRange(20), help="Resamples of patients.")
@workers_option()
@engine_option
@click.option("--force", is_flag=True, help="Save a model that learned nothing, with a mark in its card.")
@click.option("--json", "as_json", is_flag=True, help="Print metrics.json.")
def command(
    task: str,
    cohort: Path,
    out: Path,
    encoder: str | None,
    serialiser: str,
    note_reader: str | None,
    evidence: bool,
    stage1: str | None,
    stage1_evidence: bool,
    rubric_file: Path | None,
    learner: str,
    search: bool,
    model_id: str | None,
    bootstraps: int,
    count: int,
    engine: str,
    force: bool,
    as_json: bool,
) -> None:
    """Train a model on your own patients.

    \b
    riskcards cohort build --task readmission_30d --fhir export/ --out cohort/
    riskcards train --task readmission_30d --cohort cohort/ --out model/
    riskcards train --task readmission_30d --cohort cohort/ --out model/ --note-reader rules --stage1 smollm2
    riskcards evaluate --model model/ --cohort cohort/ --out evaluation/
    riskcards score patient.json --model model/

    Uses the training and validation splits; the test split is left for `evaluate`. Constant inputs are left out and
    reported. With --stage1 the first stage's estimate and the embedding of its reasons become inputs, cross-fitted by
    patient, and it is saved as stage1.json. A language model reads a few passages of each patient's newest notes.
    Language model answers are cached in OUT.answers.jsonl, findings of --note-reader in OUT.readings.jsonl, vectors of
    a custom --encoder in OUT.vectors, so that an interrupted run resumes. These files hold patient data: protect them.

    --workers fit the folds and resample at once; the model is the same with any number. An encoder uses all processors
    by itself.

    Every --learner is held to the directions that medicine is sure of, explained exactly, and served without the
    library that trained it; lightgbm needs the extra [benchmark] to train. With --search its settings are chosen by
    cross-validation over patients, anew within each fold, so that the figures stay out of fold.

    OUT gets the model (XGBoost format or JSON, no pickle), manifest.json with the sha256 of every file, the model card,
    and metrics.json and report.html, measured out of fold by patient on estimates as they would be served.

    OUT must be new or empty: no model is overwritten, and its version holds a digest of it. A model without a split, or
    that ranks patients no better than chance out of fold, or backwards, is refused with the reason.

    Needs at least 10 rows with and 10 without the outcome, from 5 patients each; reliable results need some hundreds.
    """
    from risk_model.core import check_new_folder
    from risk_model.training import build_model

    if evidence and not (encoder and note_reader):
        raise click.UsageError("--evidence needs --encoder and --note-reader")
    check_new_folder(out)
    chosen_stage = checked_stage(stage1, note_reader)
    sources = _sources(encoder, note_reader, evidence, serialiser, rubric_file, out)
    shows = stage1_evidence and chosen_stage not in {None, REGRESSION}
    sources = replace(sources, literature=literature() if shows else None)
    labelled, study = _read(cohort, task, sources, chosen_stage)
    name = model_id or f"{study.cohort.task.replace('_', '-')}-local"
    found = build_model(
        labelled,
        study,
        sources,
        out,
        model_id=name,
        bootstraps=bootstraps,
        first_stage=stage_to_fit(chosen_stage, study, labelled.asked.question, out, evidence=shows),
        learner=learner,
        search=search,
        force=force,
        say=report_line,
        workers=Workers(count, engine),
    )
    _report(found, name, out, as_json=as_json)


def _sources(
    encoder: str | None, note_reader: str | None, evidence: bool, serialiser: str, rubric: Path | None, out: Path
) -> DatasetSources:
    """Returns what the inputs are made of. Raises TaskDefinitionError for a file that is no rubric."""
    from risk_model.features import Rubric
    from risk_model.first_stage import RECORDS

    opened = None if rubric is None else Rubric.open(rubric)
    form = next(name for name, form in RECORDS.items() if form == serialiser)
    return replace(open_sources(encoder, note_reader, evidence, beside=out), record=form, rubric=opened)


def _read(cohort: Path, task: str, sources: DatasetSources, stage: str | None) -> tuple[LabelledCohort, Dataset]:
    """Returns the cohort, without patients the first stage was tuned on, and its rows."""
    from risk_model import LabelledCohort
    from risk_model.evaluation import read_training_dataset
    from risk_model.labels import find_definition

    labelled = exclude_tuning_patients(LabelledCohort.open(cohort), stage)
    name = find_definition(task).id if task.endswith((".yaml", ".yml")) else task
    with counting("rows read") as progress:
        asks = stage not in {None, REGRESSION}
        return labelled, read_training_dataset(labelled, name, sources, progress, windows=asks)


def _report(found: Mapping[str, Any], name: str, out: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode())
        return
    low, high = found["auroc"]["interval"]
    click.echo(
        f"{name}: {found['rows']} rows, {found['outcomes']} with the outcome\n"
        f"AUROC {found['auroc']['value']:.3f} ({low:.3f} to {high:.3f}), {found['measured_on']}\n"
        f"written to {out}: report.html to read, `riskcards card {out}` for the model card"
    )
