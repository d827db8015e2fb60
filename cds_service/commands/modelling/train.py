"""`riskcards train`: trains a model on a cohort."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import orjson

from cds_service.commands.modelling.first_stage import REGRESSION, checked_stage, exclude_tuning_patients, stage_to_fit
from cds_service.commands.shared.model_sources import ENCODER_HELP, READER_HELP, counting, open_sources, report_line

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
    "--rubric", "rubric_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also use the answers to a rubric as input; see `riskcards rubric`.",
)  # fmt: skip
@click.option("--model-id", help="Name of the model.  [default: TASK-local]")
@click.option("--bootstraps", default=1000, show_default=True, type=click.IntRange(20), help="Resamples of patients.")
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
    rubric_file: Path | None,
    model_id: str | None,
    bootstraps: int,
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

    OUT gets the model (XGBoost format, no pickle), manifest.json with the sha256 of every file, the model card, and
    metrics.json and report.html, measured out of fold by patient on estimates as they would be served.

    OUT must be new or empty: no model is overwritten, and its version holds a digest of it. A model without a split, or
    that ranks patients no better than chance out of fold, or backwards, is refused with the reason.

    Needs at least 10 rows with and 10 without the outcome, from 5 patients each; reliable results need some hundreds.
    """
    from risk_model import LabelledCohort
    from risk_model.evaluation import read_training_dataset
    from risk_model.features import Rubric
    from risk_model.first_stage import RECORDS
    from risk_model.labels import find_definition
    from risk_model.training import build_model

    if evidence and not (encoder and note_reader):
        raise click.UsageError("--evidence needs --encoder and --note-reader")
    chosen_stage = checked_stage(stage1, note_reader)
    rubric = None if rubric_file is None else Rubric.open(rubric_file)
    labelled = exclude_tuning_patients(LabelledCohort.open(cohort), chosen_stage)
    task = find_definition(task).id if task.endswith((".yaml", ".yml")) else task
    opened = open_sources(encoder, note_reader, evidence, beside=out)
    form = next(name for name, form in RECORDS.items() if form == serialiser)
    sources = replace(opened, record=form, rubric=rubric)
    with counting("rows read") as progress:
        study = read_training_dataset(labelled, task, sources, progress, windows=chosen_stage not in {None, REGRESSION})
    name = model_id or f"{task.replace('_', '-')}-local"
    stage = stage_to_fit(chosen_stage, study, labelled.asked.question, out)
    found = build_model(
        labelled,
        study,
        sources,
        out,
        model_id=name,
        bootstraps=bootstraps,
        first_stage=stage,
        force=force,
        say=report_line,
    )  # fmt: skip
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode())
        return
    low, high = found["auroc"]["interval"]
    click.echo(
        f"{name}: {found['rows']} rows, {found['outcomes']} with the outcome\n"
        f"AUROC {found['auroc']['value']:.3f} ({low:.3f} to {high:.3f}), {found['measured_on']}\n"
        f"written to {out}: report.html to read, `riskcards card {out}` for the model card"
    )
