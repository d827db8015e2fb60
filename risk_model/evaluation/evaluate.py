"""A model folder on a cohort folder: metrics.json and report.html, with what the model declined to answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from artifact_store import Parts, PerProcess, Workers, atomic_folder, write_json
from risk_model.cohorts.labelled_cohort import CohortPart, LabelledCohort
from risk_model.core.artifacts import check_new_folder
from risk_model.core.errors import TrainingError
from risk_model.core.tasks import Task
from risk_model.evaluation.cohorts_seen import SPLITS, splits_for
from risk_model.evaluation.dataset import Dataset, DatasetSources, Progress, RowFacts, study_of
from risk_model.evaluation.performance import EvaluatedRows, evaluate, held_out_coverage
from risk_model.evaluation.predictions import FILE as PREDICTIONS
from risk_model.evaluation.predictions import Prediction, parquet_available, write_predictions
from risk_model.evaluation.seismometer_export import FOLDER as SEISMOMETER
from risk_model.evaluation.seismometer_export import ScoredRow, write_seismometer
from risk_model.first_stage.training_rows import TrainingRows
from risk_model.models.conformal import categories_of
from risk_model.models.estimator import RiskModel
from risk_model.reports.evaluation_page import evaluation_page

Say = Callable[[str], None]
OpenedModel = tuple[RiskModel, DatasetSources]
"""A model and what its inputs are made of."""


@dataclass(frozen=True, slots=True)
class CohortPredictions:
    """The rows of a cohort as a model sees them; `answered` are those it does not abstain on."""

    study: Dataset
    where: str
    splits: tuple[str, ...] = SPLITS
    unspoken: int = 0
    """Rows without a usable answer of the first stage's language model: they are evaluated without its estimate."""

    @property
    def answered(self) -> NDArray[np.bool_]:
        return np.array([code == "" for code in self.study.abstentions])


def predict_cohort(
    opened: PerProcess[OpenedModel],
    labelled: LabelledCohort,
    split: str = "auto",
    progress: Progress | None = None,
    *,
    workers: Workers | None = None,
    work: Path | None = None,
) -> CohortPredictions:
    """Every row through the model's own code: the same inputs and abstentions as in the service.

    `opened` is made in each worker. Finished parts are kept in `work`, so that an interrupted run resumes. Raises
    TrainingError for another task, and for rows the model was trained on.
    """
    model, _ = opened()
    if labelled.task != model.task:
        raise TrainingError(f"the model answers {model.task} and the cohort was built for {labelled.task}")
    chosen, where = splits_for(labelled, split, model.manifest)
    wanted = labelled.split(chosen)
    if not wanted:
        raise TrainingError(f"the cohort has no rows in its {chosen} split")
    parts = labelled.parts()
    kept = Parts(work, {"rows of": model.fingerprint, "split": chosen, "rows": len(wanted)})
    read: list[_ReadRow] = []
    job = partial(_read_part, opened, labelled, chosen)
    for answer in kept.results(job, parts, labelled.keys(parts), workers or Workers()):
        read += msgspec.msgpack.decode(answer, type=list[_ReadRow])
        if progress is not None:
            progress(len(read), len(wanted))
    rows = [wanted[row.place] for row in read]
    y, splits = np.array([float(row.label) for row in rows]), SPLITS if chosen is None else (chosen,)
    x = np.stack([np.frombuffer(row.x, np.float32) for row in read])
    cohort = TrainingRows(model.task, model.names, x, y, tuple(row.person for row in rows))
    study = study_of(labelled, rows, cohort, [row.facts for row in read], [row.abstained for row in read])
    return CohortPredictions(study, where, splits, sum(row.unspoken for row in read))


class _ReadRow(msgspec.Struct):
    """One row as a worker sends it; `place` is its number among those of the split, `x` the bytes of its inputs."""

    place: int
    x: bytes
    abstained: str
    unspoken: bool
    facts: RowFacts


def _read_part(opened: PerProcess[OpenedModel], labelled: LabelledCohort, split: str | None, part: CohortPart) -> bytes:
    """Reads the rows of the patients of one part, in a worker."""
    model, sources = opened()
    places = {row: place for place, row in enumerate(labelled.split(split))}
    found = []
    for row, record in labelled.records(split, part):
        reading = sources.read(record, model.task)
        x, abstention = model.prepared(reading)
        code, facts = "" if abstention is None else abstention.code, RowFacts.of(reading, model.task)
        found.append(_ReadRow(places[row], x.astype(np.float32).tobytes(), code, bool(reading.opinions.failed), facts))
    return msgspec.msgpack.encode(found)


def predicted_rows(model: RiskModel, answers: CohortPredictions) -> EvaluatedRows:
    """The answered rows. Raises TrainingError when the model answers for none."""
    study, answered = answers.study, answers.answered
    if not answered.any():
        reasons = ", ".join(f"{code} ({count})" for code, count in Counter(study.abstentions).most_common(3))
        raise TrainingError(f"the model abstains on every row: {reasons}")
    x = study.cohort.x[answered]
    y, patients = study.cohort.y[answered], np.array(study.cohort.patients)[answered]
    probability = as_served(model, x)
    covered, distances = None, None
    if model.conformal is not None:
        kinds = categories_of(model.names, x)
        covered, distances = held_out_coverage(model.conformal, y, probability, patients, kinds)
    comparators = {name: score[answered] for name, score in study.comparators.items()}
    subgroups = {name: mask[answered] for name, mask in study.subgroups.items()}
    return EvaluatedRows(y, probability, patients, comparators, subgroups, covered, distances)


def as_served(model: RiskModel, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities of rows (n, inputs): held within the bound where a language model has a part in them."""
    found = model.probabilities(rows)
    if not model.is_bounded:
        return found
    held = [model.bounded(p, row).probability for p, row in zip(found.tolist(), rows, strict=True)]
    return np.array(held)


def write_evaluation(
    model: RiskModel,
    labelled: LabelledCohort,
    answers: CohortPredictions,
    out: Path,
    *,
    bootstraps: int,
    say: Say,
    seismometer: bool = False,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """metrics.json, report.html and predictions.parquet in `out`; the document of metrics. With `seismometer` also a
    folder that Seismometer opens.

    Raises TrainingError where `out` is not empty.
    """
    check_new_folder(out)
    rows = predicted_rows(model, answers)
    document = evaluate(rows, bootstraps=bootstraps, progress=say, workers=workers)
    declined = Counter(code for code in answers.study.abstentions if code)
    document |= {
        "measured_on": answers.where,
        "model": {"id": model.manifest["model_id"], "version": model.manifest["version"]},
        "task": model.task,
        "label": labelled.definition,
        "abstained": {"rows": sum(declined.values()), "reasons": dict(declined.most_common())},
    }
    if model.asks is not None:
        document["first_stage"] = {"language_model": model.asks.model, "rows_without_its_answer": answers.unspoken}
    with atomic_folder(out) as coming:
        write_pages(document, model.question, rows, coming, facts(model.question, labelled))
        if parquet_available():
            write_predictions(coming / PREDICTIONS, _predictions(answers, rows))
        if seismometer:
            (coming / SEISMOMETER).mkdir()
            asked = model.question
            write_seismometer(
                coming / SEISMOMETER,
                _scored(answers, rows),
                outcome=asked.outcome.capitalize(),
                model=f"{model.manifest['model_id']} {model.manifest['version']}",
                title=asked.title,
            )
    return document


def _scored(answers: CohortPredictions, rows: EvaluatedRows) -> list[ScoredRow]:
    answered = [row for row, answers_it in zip(answers.study.rows, answers.answered, strict=True) if answers_it]
    groups = [tuple(name for name, mask in rows.subgroups.items() if mask[n]) for n in range(len(answered))]
    return [
        ScoredRow(row.subject_id, row.encounter_id or "", row.prediction_time, found, bool(row.label), cohorts)
        for row, found, cohorts in zip(answered, rows.probability.tolist(), groups, strict=True)
    ]


def _predictions(answers: CohortPredictions, rows: EvaluatedRows) -> list[Prediction]:
    answered = [row for row, answers_it in zip(answers.study.rows, answers.answered, strict=True) if answers_it]
    pairs = zip(answered, rows.probability.tolist(), strict=True)
    return [Prediction(row.subject_id, row.prediction_time, found, bool(row.label)) for row, found in pairs]


def write_pages(document: dict[str, Any], about: Task, rows: EvaluatedRows, out: Path, known: dict[str, str]) -> None:
    write_json(out / "metrics.json", document)
    title = f"{about.title}: evaluation of {document['model']['id']} {document['model']['version']}"
    declined = document.get("abstained", {"rows": 0})["rows"]
    words = (
        f"{document['rows']} rows of {document['patients']} patients, outcome in {document['prevalence']['value']:.1%} "
        f"({document['label']}); {document['measured_on']}. The model declined to answer for {declined} further rows."
    )
    page = evaluation_page(
        title, words, document, rows.outcome, rows.probability, rivals=rows.comparators, facts={"title": title, **known}
    )
    (out / "report.html").write_text(page, "utf-8")


def facts(about: Task, labelled: LabelledCohort) -> dict[str, str]:
    """What a run knows of the TRIPOD+AI items."""
    times = sorted(row.prediction_time for row in labelled.rows)
    excluded = "; ".join(f"{reason}: {count}" for reason, count in labelled.manifest.get("excluded", {}).items())
    return {
        "purpose": f"Estimates the risk of {about.outcome}; informs clinicians, directs nothing.",
        "source": "Routine records as FHIR resources; see cohort.json for files and counts.",
        "dates": f"Prediction times from {times[0].date()} to {times[-1].date()}." if times else "No rows.",
        "eligibility": f"Label definition {labelled.definition} (task.yaml). Excluded: {excluded or 'none'}.",
        "preparation": "Mapped by code and unit; what cannot be trusted is refused with a reason, never guessed.",
        "outcome": f"{about.outcome.capitalize()}, by definition {labelled.definition}, {about.horizon}.",
        "predictors": "Routine vital signs, laboratory values, diagnoses and use of care, chosen before fitting.",
        "measured": "As recorded up to the prediction time; nothing later can be reached.",
        "calculated": "By the service's own code, row by row, with its abstentions.",
    }
