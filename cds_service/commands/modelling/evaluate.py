"""`riskcards evaluate`: measures a model on a cohort, as metrics.json and report.html."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import orjson

from artifact_store import PerProcess
from cds_service.commands.modelling.first_stage import exclude_tuning_patients, stage_of
from cds_service.commands.shared.model_sources import counting, opened_model, report_line, unspoken
from cds_service.commands.shared.parallel import Parallel, parallel_options

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(name="evaluate")
@click.option("--model", required=True, type=_FOLDER, help="Folder of `riskcards train` or `recalibrate`.")
@click.option("--cohort", required=True, type=_FOLDER, help="Folder of `riskcards cohort build`.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the report.")
@click.option(
    "--split",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "all", "train", "validation", "test"]),
    help="Rows to evaluate; auto: the test split of the training cohort, all rows of any other.",
)
@click.option("--bootstraps", default=1000, show_default=True, type=click.IntRange(20), help="Resamples of patients.")
@parallel_options()
@click.option(
    "--seismometer", is_flag=True, help="Also write OUT/seismometer, a folder that Seismometer opens; needs [meds]."
)
@click.option("--json", "as_json", is_flag=True, help="Print metrics.json.")
def command(
    model: Path,
    cohort: Path,
    out: Path,
    split: str,
    bootstraps: int,
    parallel: Parallel,
    seismometer: bool,
    as_json: bool,
) -> None:
    """Evaluate a model on held-out patients.

    \b
    riskcards evaluate --model model/ --cohort cohort/ --out evaluation/
    riskcards evaluate --model model/ --cohort next-year/ --out evaluation-next-year/ --json --workers 8

    OUT gets metrics.json and report.html: discrimination, calibration, net benefit, alerts per 100, subgroups (fewer
    than 100 rows are not reported), the established scores on the same rows, coverage of the 90 % intervals, and the
    TRIPOD+AI checklist as far as a run can fill it. Intervals are 95 %, by bootstrap over patients. Abstentions are
    counted by reason and not scored. With the extra [meds] OUT also gets predictions.parquet, the answered rows in the
    schema of meds-evaluation: patient data, protect it. With --seismometer OUT gets predictions, outcomes and cohorts
    with the configuration of Seismometer (docs/exports.md). OUT must be new or empty.
    """
    from risk_model import LabelledCohort
    from risk_model.core import check_new_folder
    from risk_model.evaluation import parquet_available, predict_cohort, write_evaluation
    from risk_model.reports import require_matplotlib

    require_matplotlib()
    if seismometer and not parquet_available():
        raise click.UsageError("--seismometer writes parquet: pip install 'riskcards[meds]'")
    check_new_folder(out)
    ready = PerProcess(partial(opened_model, model.absolute()))
    opened, _ = ready()
    labelled = exclude_tuning_patients(LabelledCohort.open(cohort.absolute()), stage_of(opened))
    with parallel.folder(out) as work:
        with counting("rows read") as progress:
            answers = predict_cohort(ready, labelled, split, progress, workers=parallel.workers, work=work)
        if answers.unspoken:
            report_line(unspoken(answers.unspoken))
        found = write_evaluation(
            opened,
            labelled,
            answers,
            out,
            bootstraps=bootstraps,
            say=report_line,
            seismometer=seismometer,
            workers=parallel.workers,
        )
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode())
        return
    for name in ("auroc", "auprc", "brier", "calibration_slope", "observed_expected"):
        low, high = found[name]["interval"]
        click.echo(f"{name:<20}{found[name]['value']:8.3f}   {low:.3f} to {high:.3f}")
    click.echo(f"{found['rows']} rows, {found['abstained']['rows']} declined; {found['measured_on']}")
    click.echo(f"written to {out}: report.html, metrics.json")
