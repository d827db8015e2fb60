"""External validation on seriously ill adults of five United States hospitals (SUPPORT, 1989-1994), through FHIR.

    python -m benchmarks.support2 --train FILE --test FILE --out DIR

Each patient becomes FHIR resources, and `riskcards cohort build` makes them a cohort: on the third day, who will die in
hospital? Measured on the test patients: the model that `riskcards train` makes of the training patients (the headline),
the shipped mortality model as it is, the same with intercept and slope fitted on the training patients, the acute
physiology score of the study (APS), the SUPPORT model and the physicians' own estimate, both of surviving two months.

The shipped model was made for intensive care within 48 hours of admission. It abstains on these patients; `shipped`
counts by which reason, and its figures are of the estimates it would not have shown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks import support2_fhir
from risk_model import IN_HOSPITAL_MORTALITY, LabelledCohort, RiskModel
from risk_model.evaluation import measure
from risk_model.evaluation.metrics import SCORE_METRICS, logistic_fit
from risk_model.first_stage.fusion import PatientReading
from risk_model.models.estimator import shipped_folder
from risk_model.prompts.opinion import Opinions
from risk_model.reports.evaluation_page import evaluation_page

Floats = NDArray[np.float64]
TASK = """\
id: hospital_death_day_3
definition: support
title: Hospital death from the third day
outcome: dying before leaving hospital
source: SUPPORT, discharge disposition expired
timeline: admission -- third day of the study = predict -- discharge
trigger: {event: measurement, concept: gcs, at: event}
window: {to: end of stay}
label: {death: in_stay}
"""
# Comparators of the table -> which way they point.
RIVALS = {"APS": ("aps", 1), "SUPPORT model": ("surv2m", -1), "physicians": ("prg2m", -1)}
BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True)
class Predicted:
    """The outcome and a model's log-odds of each patient, and how many it would have abstained on, by reason."""

    subjects: tuple[str, ...]
    outcome: Floats
    logit: Floats
    abstentions: dict[str, int]


def run(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "cds_service.cli", *map(str, arguments)], check=True, stdout=sys.stderr)


def cohort_of(table: Path, work: Path) -> Path:
    """The folder of the cohort of a table, made by `riskcards cohort build`."""
    work.mkdir(parents=True)
    task, export = work / "task.yaml", work / "export"
    export.mkdir()
    task.write_text(TASK, "utf-8")
    kinds: dict[str, list[bytes]] = {}
    for row in support2_fhir.read_rows(table):
        for resource in support2_fhir.to_fhir(row):
            kinds.setdefault(resource["resourceType"], []).append(orjson.dumps(resource))
    for kind, lines in kinds.items():
        (export / f"{kind}.ndjson").write_bytes(b"\n".join(lines) + b"\n")
    run("cohort", "build", "--task", task, "--fhir", export, "--follow-up", "none", "--split", "0,0", "--out",
        work / "cohort")  # fmt: skip
    return work / "cohort"


def predicted(model: RiskModel, cohort: Path) -> Predicted:
    """A model's log-odds of every patient of a cohort, also of those on which it abstains."""
    subjects, outcome, rows, codes = [], [], [], {}
    for row, record in LabelledCohort.open(cohort).records():
        made, abstention = model.prepared(PatientReading(record, record.features(), None, (), Opinions()))
        subjects.append(row.subject_id)
        outcome.append(float(row.label))
        rows.append(made)
        if abstention is not None:
            codes[abstention.code] = codes.get(abstention.code, 0) + 1
    probability = model.probabilities(np.stack(rows))
    return Predicted(tuple(subjects), np.array(outcome), np.log(probability / (1 - probability)), codes)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def rivals(table: Path, subjects: tuple[str, ...]) -> dict[str, Floats]:
    """Each comparator of the table as a score of death, NaN where it is not known."""
    rows = {f"support-{row['sno']}": row for row in support2_fhir.read_rows(table)}
    return {
        name: np.array([sign * float(rows[s][column]) if rows[s][column] else np.nan for s in subjects])
        for name, (column, sign) in RIVALS.items()
    }


def validate(train: Path, test: Path, out: Path) -> dict[str, Any]:
    """metrics.json: the trained model, and under `comparators` everything else on the same patients."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="support2-") as folder:
        work = Path(folder)
        learned, held = cohort_of(train, work / "train"), cohort_of(test, work / "test")
        run("train", "--task", work / "train" / "task.yaml", "--cohort", learned, "--out", work / "model")
        trained = predicted(RiskModel.open(work / "model"), held)
        inside = orjson.loads((work / "model" / "metrics.json").read_bytes())
        shipped = RiskModel.open(shipped_folder(IN_HOSPITAL_MORTALITY))
        fitted, as_is = predicted(shipped, learned), predicted(shipped, held)
    y, patients = trained.outcome, np.array(trained.subjects)
    intercept, slope = logistic_fit(fitted.outcome, fitted.logit)
    probability = sigmoid(trained.logit)
    metrics: dict[str, Any] = dict(measure(y, probability, patients, bootstraps=BOOTSTRAPS))
    others = {
        "shipped mortality model as it is": sigmoid(as_is.logit),
        "shipped mortality model recalibrated": sigmoid(intercept + slope * as_is.logit),
    }
    metrics["comparators"] = {n: dict(measure(y, p, patients, bootstraps=BOOTSTRAPS)) for n, p in others.items()}
    scores = rivals(test, trained.subjects)
    for name, score in scores.items():
        known = np.isfinite(score)
        metrics["comparators"][name] = dict(
            measure(y[known], score[known], patients[known], metrics=SCORE_METRICS, bootstraps=BOOTSTRAPS)
        )
    asked = np.isfinite(scores["physicians"])
    metrics["comparators"]["trained model, patients with a physician's estimate"] = dict(
        measure(y[asked], probability[asked], patients[asked], metrics=SCORE_METRICS, bootstraps=BOOTSTRAPS)
    )
    metrics |= {
        "rows": len(y),
        "patients": len(set(trained.subjects)),
        "prevalence": float(y.mean()),
        "measured_on": "patients the trained model never saw",
        "trained": {"rows": len(fitted.outcome), "auroc_out_of_fold": inside["auroc"],
                    "calibration_slope_out_of_fold": inside["calibration_slope"], "abstentions": trained.abstentions},
        "shipped": {"abstentions": as_is.abstentions, "recalibration": {"intercept": intercept, "slope": slope}},
    }  # fmt: skip
    about = f"{len(y)} patients, {metrics['prevalence']:.1%} died in hospital; {metrics['measured_on']}."
    columns = scores | others
    page = evaluation_page(
        "Hospital death from the third day (SUPPORT)", about, metrics, y, probability, rivals=columns
    )
    (out / "report.html").write_text(page, "utf-8")
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    (out / "metrics.json").write_bytes(orjson.dumps(metrics, option=options))
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, metavar="FILE")
    parser.add_argument("--test", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    metrics = validate(options.train, options.test, options.out)
    print(f"trained AUROC {metrics['auroc']['value']:.3f}, slope {metrics['calibration_slope']['value']:.2f}")
    for name, found in metrics["comparators"].items():
        print(f"{name}: AUROC {found['auroc']['value']:.3f}")


if __name__ == "__main__":
    main()
