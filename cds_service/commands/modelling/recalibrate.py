"""`riskcards recalibrate`: a new version of a model, fitted to a hospital's outcome rate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson

from artifact_store import PerProcess
from cds_service.commands.modelling.first_stage import exclude_tuning_patients, stage_of
from cds_service.commands.shared.model_sources import counting, opened_model, report_line, unspoken

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(name="recalibrate")
@click.option("--model", required=True, type=_FOLDER, help="The model folder to start from; it is not changed.")
@click.option("--cohort", required=True, type=_FOLDER, help="Recent patients of this hospital, with outcomes.")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the new version."
)
@click.option("--bootstraps", default=1000, show_default=True, type=click.IntRange(20), help="Resamples of patients.")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def command(model: Path, cohort: Path, out: Path, bootstraps: int, as_json: bool) -> None:
    """Recalibrate a model to your own patients, as a new version.

    \b
    riskcards recalibrate --model model/ --cohort recent/ --out model-recalibrated/

    The ranking of patients is unchanged; the intercept (with 20 or more outcomes) and slope (100 or more) of the
    log-odds are refitted. The new version names its source with its hash; recalibration.html shows calibration before
    and after, "after" cross-fitted by patient. Never automatic: compare, then configure the service to use it.
    """
    from risk_model import LabelledCohort
    from risk_model.core import check_new_folder
    from risk_model.evaluation import predict_cohort
    from risk_model.reports import require_matplotlib
    from risk_model.training import write_recalibrated

    require_matplotlib()
    check_new_folder(out)
    ready = PerProcess(partial(opened_model, model))
    opened, _ = ready()
    labelled = exclude_tuning_patients(LabelledCohort.open(cohort), stage_of(opened))
    with counting("rows read") as progress:
        answers = predict_cohort(ready, labelled, "auto", progress)
    if answers.unspoken:
        report_line(unspoken(answers.unspoken))
    found = write_recalibrated(opened, answers, labelled, out, bootstraps=bootstraps, say=report_line)
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(f"{'':<24}{'before':>24}{'after':>28}")
    for name in ("calibration_intercept", "calibration_slope", "observed_expected", "brier"):
        cells = [_shown(found[when][name]) for when in ("before", "after")]
        click.echo(f"{name:<24}{cells[0]:>26}{cells[1]:>26}")
    click.echo(f"version {found['version']} ({found['method']}) written to {out}; not in use until you configure it")


def _shown(metric: dict[str, Any]) -> str:
    low, high = metric["interval"]
    return f"{metric['value']:.3f} ({low:.3f} to {high:.3f})"
