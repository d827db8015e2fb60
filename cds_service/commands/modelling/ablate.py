"""`riskcards ablate`: compares learners, inputs and established scores on one cohort."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from cds_service.commands.modelling.learners import LEARNERS
from cds_service.commands.shared.model_sources import READER_HELP, counting, open_sources, report_line

COMPARED = (*LEARNERS, "lstm")


@click.command(name="ablate")
@click.option(
    "--cohort", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of `riskcards cohort build`.",
)  # fmt: skip
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder; new or empty.")
@click.option(
    "--learner", "learners", multiple=True, type=click.Choice(COMPARED),
    help="A learner to compare; repeat. The first is the reference.  [default: all]",
)  # fmt: skip
@click.option("--note-reader", help=f"Also use findings in notes as input, read by {READER_HELP}")
@click.option("--bootstraps", default=1000, show_default=True, type=click.IntRange(20), help="Resamples of patients.")
@click.option("--json", "as_json", is_flag=True, help="Print ablation.json.")
def command(
    cohort: Path, out: Path, learners: tuple[str, ...], note_reader: str | None, bootstraps: int, as_json: bool
) -> None:
    """Compare learners and blocks of inputs on your own patients, before you train.

    \b
    riskcards cohort build --task readmission_30d --fhir export/ --out cohort/
    riskcards ablate --cohort cohort/ --out ablation/
    riskcards ablate --cohort cohort/ --out ablation/ --learner logistic-regression --learner xgboost --json

    Every learner gives the training and validation rows an estimate out of fold by patient; its settings are chosen by
    cross-validation within the other folds. The first learner is fitted again without each block of inputs (laboratory,
    vital signs, diagnoses, medications, earlier care, this stay, notes, age and sex), and the established scores are
    measured on the same rows. The test split is not used: keep it for `evaluate`.

    OUT gets ablation.json and ablation.html: AUROC, AUPRC and Brier score in one table, and the differences from the
    first learner with 95 % intervals in one picture, by paired resamples of patients. An interval that holds 0 means
    that these patients do not show a difference. `riskcards train --learner` takes any but lstm, a recurrent network
    over the measurements of the last two days, which needs the extra [llm] and is only compared.
    """
    from risk_model import LabelledCohort
    from risk_model.core import check_new_folder
    from risk_model.evaluation import read_training_dataset
    from risk_model.reports import require_matplotlib
    from risk_model.training import ablate, write_ablation

    require_matplotlib()
    check_new_folder(out)
    chosen = learners or COMPARED
    labelled = LabelledCohort.open(cohort)
    sources = open_sources(None, note_reader, evidence=False, beside=out)
    with counting("rows read") as progress:
        study = read_training_dataset(labelled, labelled.task, sources, progress, series="lstm" in chosen)
    found = ablate(study, chosen, bootstraps=bootstraps, say=report_line)
    write_ablation(found, out)
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    for item in found["contenders"]:
        if "auroc" not in item:
            click.echo(f"{item['name']:<44}{item['reason']}")
            continue
        low, high = item["auroc_difference"]["interval"]
        difference = f"{item['auroc_difference']['value']:+.3f} ({low:+.3f} to {high:+.3f})"
        click.echo(f"{item['name']:<44}AUROC {item['auroc']['value']:.3f}   {difference}")
    for name, why in found["not_compared"].items():
        click.echo(f"{name:<44}{why}")
    click.echo(f"{found['rows']} rows; {found['measured_on']}; written to {out}")
