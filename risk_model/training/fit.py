"""From a cohort to a model folder: fit, evaluate out of fold, write the model card, sign every file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from artifact_store import Workers, atomic_folder
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.core.artifacts import check_new_folder, sign
from risk_model.core.errors import TrainingError
from risk_model.core.tasks import READMISSION_30D
from risk_model.evaluation.cohorts_seen import dataset_fingerprint, seen
from risk_model.evaluation.dataset import TRAINING, Dataset, DatasetSources
from risk_model.evaluation.evaluate import facts, write_pages
from risk_model.evaluation.performance import EvaluatedRows, evaluate
from risk_model.first_stage.note_stage import FILE, StageToFit
from risk_model.first_stage.training_rows import TrainingRows
from risk_model.labels.task_definitions import TaskDefinition
from risk_model.models.conformal import categories_of, cross_calibrated
from risk_model.models.model_files import RUBRIC_FILE
from risk_model.models.note_bounds import NOTE_BOUND
from risk_model.notes.rule_reader import LANGUAGE
from risk_model.reports.model_cards import local_texts, training_card
from risk_model.training.gradient_boosting import DEFAULT_PARAMETERS, PARAMETERS, Fit, fit, save
from risk_model.training.learners import DEFAULT
from risk_model.training.usefulness import caution, why_useless

OFTEN_KNOWN = 0.8
MOST_NEEDED = 15
_FEWEST_LEAVES = 10
"""A cohort of any size may be divided into about so many leaves."""
# NUBC and HL7 codes of stays that end in death or hospice: no readmission to predict.
_NOT_DISCHARGED_ALIVE = [
    "20", "40", "41", "42", "50", "51", "exp", "hosp", "hospice", "hospice-home", "hospice-facility",
]  # fmt: skip


def build_model(
    labelled: LabelledCohort,
    study: Dataset,
    sources: DatasetSources,
    out: Path,
    *,
    model_id: str,
    bootstraps: int = 1000,
    first_stage: StageToFit | None = None,
    parameters: Mapping[str, Any] | None = None,
    learner: str = DEFAULT,
    search: bool = False,
    force: bool = False,
    say: Callable[[str], None] = lambda _: None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Write model, card, metrics and report into `out`; the metrics, out of fold by patient.

    The version holds a digest of the model, so that two models never share one.

    With `first_stage` a first stage estimates from notes and says why, cross-fitted. Where a language model reads the
    notes, or is the first stage, the metrics are of estimates held within the bound, as they are served.

    Raises TrainingError where `out` is not empty, the cohort is unusable, or the model is useless (`why_useless`); with
    `force` a useless one is saved, and its card and manifest say so.
    """
    check_new_folder(out)
    also = () if first_stage is None else (first_stage.block(study.cohort),)
    fitted = fit(
        study.cohort, progress=say, parameters=dict(parameters or parameters_for(study.cohort)), also=also,
        note_bound=NOTE_BOUND if _has_a_language_model(sources, first_stage) else None, learner=learner, search=search,
        workers=workers,
    )  # fmt: skip
    rows = out_of_fold(study, fitted)
    document = evaluate(rows, bootstraps=bootstraps, progress=say, workers=workers)
    useless, version = why_useless(fitted, document), version_of(fitted)
    if useless is not None and not force:
        raise TrainingError(f"not saved: {useless}. --force saves it with a mark in its card")
    document |= {
        "measured_on": "out of fold by patient, calibration cross-fitted",
        "model": {"id": model_id, "version": version},
        "task": study.cohort.task,
        "label": labelled.definition,
    }
    question = labelled.asked.question
    population = population_of(study.cohort, labelled.asked)
    mark = f"Saved by force: {useless}. It must not be used for patients." if useless else caution(document)
    texts = local_texts(question, _card_facts(labelled, study, fitted, population, sources, first_stage))
    card = training_card(study.cohort.task, document, rows=document["rows"], patients=document["patients"], texts=texts)
    if mark is not None:
        say(f"caution: {mark}")
        card["cautions"]["known_risks"] = f"{mark} {card['cautions']['known_risks']}"
    about = _facts_of(labelled, sources, document["rows"]) | ({} if useless is None else {"forced": useless})
    with atomic_folder(out) as coming:
        save(
            coming, fitted, study.cohort, model_id=model_id, version=version, population=population, card=card,
            facts=about, documents=_documents(fitted, sources, first_stage),
        )  # fmt: skip
        known = {**facts(question, labelled), "objective": "Development, with internal validation."}
        write_pages(document, question, rows, coming, known)
        sign(coming, ("metrics.json", "report.html"))
    return document


def _facts_of(labelled: LabelledCohort, sources: DatasetSources, rows: int) -> dict[str, Any]:
    """Returns what the manifest says about a model's cohort and inputs."""
    return {
        "question": labelled.asked.question.to_json(),
        "label": labelled.definition,
        "cohort": {"sha256": dataset_fingerprint(labelled.folder), "rows": rows},
        "cohorts_seen": [seen(labelled, "trained", TRAINING)],
        "encoder": None if sources.encoder is None else sources.encoder.name,
        "encoder_fingerprint": None if sources.encoder is None else sources.encoder.fingerprint,
        "note_reader": None if sources.reader is None else sources.reader.name,
    }


def parameters_for(cohort: TrainingRows) -> dict[str, Any]:
    """Returns the boosting parameters of the task, with leaves small enough for a cohort of this size to split.

    `min_child_weight` counts the weight of rows, p(1-p), on each side of a split: as chosen on thousands of patients it
    lets a cohort of some hundreds make none.
    """
    found = dict(PARAMETERS.get(cohort.task, DEFAULT_PARAMETERS))
    rate = float(cohort.y.mean())
    weight = len(cohort.y) * rate * (1 - rate) * float(found.get("subsample", 1))
    return found | {"min_child_weight": min(float(found["min_child_weight"]), max(1.0, weight / _FEWEST_LEAVES))}


def version_of(fitted: Fit) -> str:
    """Returns the version of a new model: `1+` and a digest of its predictor and calibration."""
    digest = hashlib.sha256(fitted.predictor.to_bytes() + repr(fitted.calibration).encode())
    return f"1+{digest.hexdigest()[:8]}"


def _documents(fitted: Fit, sources: DatasetSources, first_stage: StageToFit | None) -> dict[str, bytes]:
    """Further files of the model folder: a first stage, a rubric."""
    found: dict[str, bytes] = {}
    if first_stage is not None:
        found[FILE] = orjson.dumps(first_stage.served(fitted.also[0]), option=orjson.OPT_APPEND_NEWLINE)
    if sources.rubric is not None:
        found[RUBRIC_FILE] = sources.rubric.source.encode()
    return found


def out_of_fold(study: Dataset, fitted: Fit) -> EvaluatedRows:
    """Training rows with probabilities, prediction sets and intervals that never saw their patient."""
    cohort = study.cohort
    kinds = categories_of(cohort.names, cohort.x)
    covered, distances = cross_calibrated(cohort.y, fitted.out_of_fold, cohort.patients, kinds, fitted.fold)
    patients = np.array(cohort.patients)
    return EvaluatedRows(cohort.y, fitted.out_of_fold, patients, study.comparators, study.subgroups, covered, distances)


def population_of(cohort: TrainingRows, asked: TaskDefinition) -> dict[str, Any]:
    """Returns the eligibility criteria: the ages, hours and inputs of the training patients."""
    known = dict(zip(cohort.names, np.isfinite(cohort.x).mean(axis=0).tolist(), strict=True))
    others = {"sex", "group", "reason", "disease", "admitted_from", "discharged_to", "finding", "note", "rubric"}
    tables = ("comorbidity_", "medication_", "stay_medication_")
    plain = [n for n in cohort.names if "." in n and n.partition(".")[0] not in others and not n.startswith(tables)]
    needs = sorted(
        (n for n in plain if known[n] >= OFTEN_KNOWN and n.endswith((".last", ".count", "_365d"))),
        key=lambda n: -known[n],
    )
    needs = needs[:MOST_NEEDED]
    age = _bounds(cohort, "age.last")
    if age is None:
        raise TrainingError("no row of the cohort has an age, which eligibility needs; check birthDate in the source")
    found: dict[str, Any] = {"minimum_age": int(age[0]), "needs": needs, "needs_at_least": (len(needs) + 1) // 2}
    words = f"patients of {int(age[0])} to {int(age[1])} years in the cohort it was trained on"
    hours = _bounds(cohort, "hours_since_admission.last")
    if hours is not None and asked.trigger.event == "admission":
        found |= {"minimum_hours": float(np.floor(hours[0])), "maximum_hours": float(np.ceil(hours[1]) + 0.5)}
        words += f", {np.floor(hours[0]):.0f} to {np.ceil(hours[1]):.0f} hours after admission"
    if asked.trigger.event in {"measurement", "report"}:
        found["without_stay"] = True
        words += ", in hospital or not"
    if cohort.task == READMISSION_30D:
        found["excluded_dispositions"] = _NOT_DISCHARGED_ALIVE
        words += ", discharged alive and not to hospice"
    return found | {"in_words": words}


def _bounds(cohort: TrainingRows, name: str) -> tuple[float, float] | None:
    if name not in cohort.names:
        return None
    column = cohort.x[:, cohort.names.index(name)]
    known = column[np.isfinite(column)]
    return (float(known.min()), float(known.max())) if len(known) else None


def _card_facts(
    labelled: LabelledCohort,
    study: Dataset,
    fitted: Fit,
    population: Mapping[str, Any],
    sources: DatasetSources,
    first_stage: StageToFit | None,
) -> dict[str, str]:
    times = sorted(row.prediction_time for row in study.rows)
    excluded = "; ".join(f"{reason}: {count}" for reason, count in labelled.manifest.get("excluded", {}).items())
    people = [word for word, name in (("Age", "age.last"), ("sex", "sex.female")) if name in fitted.names]
    return {
        "population": f"{str(population['in_words']).capitalize()}.",
        "label": labelled.definition,
        "excluded": excluded or "none",
        "demographics": f"{' and '.join(people)} are inputs." if people else "None is an input.",
        "first": str(times[0].date()),
        "last": str(times[-1].date()),
        "inputs": str(len(fitted.row_names)),
        "dropped": ", ".join(fitted.dropped) or "none",
        "stage1": _stage_in_words(sources, first_stage),
    }


def _has_a_language_model(sources: DatasetSources, first_stage: StageToFit | None) -> bool:
    reads = sources.reader is not None and sources.reader.name.startswith(LANGUAGE)
    return reads or (first_stage is not None and bool(first_stage.language_model))


def _stage_in_words(sources: DatasetSources, first_stage: StageToFit | None) -> str:
    """What the card says of notes, first stage and rubric; it begins with a space, or is empty."""
    words = []
    if sources.reader is not None:
        words.append(f"Notes are read by {sources.reader.name}.")
    if first_stage is not None:
        words.append(_first_stage_in_words(first_stage))
    if _has_a_language_model(sources, first_stage):
        words.append(
            f"What a language model says moves the estimate by at most {NOTE_BOUND:g} in log-odds, and no level; the "
            "figures below are of estimates held so."
        )
    if sources.rubric is not None:
        by = f" ({sources.rubric.author})" if sources.rubric.author else ""
        words.append(f"A rubric{by} adds {len(sources.rubric.items)} questions answered by rules.")
    return "".join(f" {word}" for word in words)


_SHOWN = ", with the patient's problems and literature about them beside each"


def _first_stage_in_words(first_stage: StageToFit) -> str:
    if first_stage.language_model:
        return (
            f"A first stage is the language model {first_stage.language_model}: asked about a few passages of the "
            f"newest notes{_SHOWN if first_stage.evidence else ''}, it estimates the outcome and names a sentence of "
            "each as its reason; estimate and embedded reasons are inputs. It learned from none of these patients, and "
            "what reads its reasons was cross-fitted by patient. Where it has not spoken, they are unknown."
        )
    return (
        "A first stage estimates the outcome from what notes say (logistic regression) and gives its leading reasons; "
        "estimate and embedded reasons are inputs. It was cross-fitted by patient: no row was learned from beside "
        "reasons that knew its outcome."
    )
