"""Compares learners, inputs and established scores on the same rows, out of fold by patient, with paired intervals.

Every contender gives a score for each row from a fit that saw no row of its patient. Differences are resampled in
pairs: one resample of patients is drawn for all contenders, so that what they share cancels out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_store import atomic_folder, write_json
from fhir_mapping.terminology import definitions
from risk_model.core.artifacts import check_new_folder
from risk_model.core.errors import TrainingError
from risk_model.evaluation.dataset import Dataset
from risk_model.evaluation.metrics import auprc, auroc, brier, logistic_fit, sigmoid
from risk_model.features.encoding import Encoding
from risk_model.features.stay_medications import PREFIX
from risk_model.first_stage.training_rows import FOLDS, TrainingRows, patient_folds
from risk_model.reports import figures
from risk_model.reports.templating import render
from risk_model.training import sequence_model
from risk_model.training.fit import parameters_for
from risk_model.training.learners import Learner, learners

Floats = NDArray[np.float64]
Say = Callable[[str], None]
_NOTES = ("finding", "note", "noted", "rubric")
_DIAGNOSES = ("condition", "disease", "group", "reason", "comorbidity")
_CARE_BEFORE = ("earlier_stay", "emergency_visit", "inpatient_stay", "outpatient_visit")


@dataclass(frozen=True, slots=True)
class Contender:
    """A score of each row, shape (rows,), NaN where there is none. `kind` is `learner`, `inputs` or `score`."""

    name: str
    kind: str
    scores: Floats


def block_of(name: str) -> str:
    """Returns the input block of an input.

    >>> block_of("sodium.last"), block_of("heart_rate.max_24h"), block_of("disease.I50"), block_of("age.last")
    ('laboratory', 'vital signs', 'diagnoses', 'age and sex')
    """
    head = name.partition(".")[0]
    if head.startswith(_NOTES):
        return "notes"
    if head.startswith(_DIAGNOSES):
        return "diagnoses"
    if head.startswith(("medication", PREFIX)):
        return "medications"
    if head in {"age", "sex"}:
        return "age and sex"
    if head in _CARE_BEFORE:
        return "earlier care"
    concept = definitions().concepts.get(head)
    if concept is None:
        return "this stay"
    return "vital signs" if concept.group == "vital sign" else concept.group


def ablate(
    study: Dataset, names: Sequence[str], *, bootstraps: int = 1000, say: Say = lambda _: None
) -> dict[str, Any]:
    """Returns the comparison: each contender's figures, and its difference from the first learner.

    `names` are learners, of `LEARNERS` or `lstm`; the first of `LEARNERS` is fitted again without each block of inputs.
    Raises TrainingError for unknown names, and for a cohort that is unusable for training.
    """
    cohort = study.cohort
    cohort.check()
    cohort = cohort.select([name for name in cohort.names if name not in cohort.constants()])
    if not cohort.names:
        raise TrainingError("every input is the same in all rows; there is nothing to learn from")
    found, missing = learners([name for name in names if name != sequence_model.NAME], parameters_for(cohort))
    if sequence_model.NAME in names and (reason := sequence_model.why_not(study.series)) is not None:
        missing[sequence_model.NAME] = reason
    if not found:
        raise TrainingError("; ".join(f"{name}: {why}" for name, why in missing.items()) or "no learner given")
    fold = patient_folds(cohort.patients, FOLDS, cohort.y)
    contenders = _by_learner(found, cohort, fold, say)
    if sequence_model.NAME in names and sequence_model.NAME not in missing:
        contenders.append(_by_sequence(study, cohort, fold, say))
    contenders += _by_block(found[0], cohort, fold, say)
    contenders += [Contender(name, "score", scores) for name, scores in study.comparators.items()]
    say(f"{bootstraps:,} paired resamples of {len(set(cohort.patients))} patients")
    return {
        "task": cohort.task,
        "rows": len(cohort.y),
        "patients": len(set(cohort.patients)),
        "outcomes": int(cohort.y.sum()),
        "inputs": len(cohort.names),
        "blocks": {block: len(places) for block, places in _blocks(cohort).items()},
        "reference": found[0].name,
        "measured_on": "out of fold by patient; settings chosen within the other folds",
        "bootstraps": bootstraps,
        "contenders": _measured(contenders, cohort, fold, bootstraps),
        "not_compared": missing,
    }


def _by_learner(found: Sequence[Learner], cohort: TrainingRows, fold: NDArray[np.int64], say: Say) -> list[Contender]:
    made = []
    for learner in found:
        say(f"learner: {learner.name}")
        made.append(Contender(learner.name, "learner", _held_out(learner, cohort, cohort.x, fold)))
    return made


def _by_sequence(study: Dataset, cohort: TrainingRows, fold: NDArray[np.int64], say: Say) -> Contender:
    """Returns the sequence model; beside the series it gets the inputs that are no measurements."""
    say(f"learner: {sequence_model.NAME}")
    concepts = definitions().concepts
    others = [place for place, name in enumerate(cohort.names) if name.partition(".")[0] not in concepts]
    series = np.zeros((len(cohort.y), 1, 0), np.float32) if study.series is None else study.series
    scores = sequence_model.held_out(series, cohort.x[:, others], cohort.y, cohort.patients, fold, say)
    return Contender(sequence_model.NAME, "learner", scores)


def _by_block(learner: Learner, cohort: TrainingRows, fold: NDArray[np.int64], say: Say) -> list[Contender]:
    blocks, made = _blocks(cohort), []
    for block, places in blocks.items() if len(blocks) > 1 else ():
        say(f"without: {block} ({len(places)} inputs)")
        kept = np.setdiff1d(np.arange(len(cohort.names)), places)
        scores = _held_out(learner, cohort, cohort.x[:, kept], fold)
        made.append(Contender(f"{learner.name} without {block}", "inputs", scores))
    return made


def _held_out(learner: Learner, cohort: TrainingRows, x: NDArray[np.float32], fold: NDArray[np.int64]) -> Floats:
    """Returns the scores by inputs as they are, without directions: what is compared are the learners."""
    plain = Encoding.plain([f"f{place}" for place in range(x.shape[1])])
    return learner.held_out(x, cohort.y, cohort.patients, fold, plain)


def _blocks(cohort: TrainingRows) -> dict[str, NDArray[np.int64]]:
    names = [block_of(name) for name in cohort.names]
    return {block: np.flatnonzero([name == block for name in names]) for block in sorted(set(names))}


def _measured(
    contenders: Sequence[Contender], cohort: TrainingRows, fold: NDArray[np.int64], bootstraps: int
) -> list[dict[str, Any]]:
    reference = contenders[0]
    _, patient = np.unique(np.asarray(cohort.patients), return_inverse=True)
    generator, count = np.random.default_rng(0), int(patient.max()) + 1
    weights = [
        np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64)[patient]
        for _ in range(bootstraps)
    ]
    made = []
    for contender in contenders:
        known = np.isfinite(contender.scores)
        y = cohort.y[known]
        item: dict[str, Any] = {"name": contender.name, "kind": contender.kind, "rows": int(known.sum())}
        if not 0 < y.sum() < len(y):
            made.append(item | {"reason": "its rows have one class only"})
            continue
        scores, beside = contender.scores[known], reference.scores[known]
        pairs = []
        for weight in weights:
            w = weight[known]
            if 0 < w @ y < w.sum():
                ours = (auroc(y, scores, w), auprc(y, scores, w))
                pairs.append((*ours, ours[0] - auroc(y, beside, w)))
        if not pairs:
            raise TrainingError("too few patients to resample: no resample holds both outcomes")
        low, high = np.percentile(np.array(pairs), [2.5, 97.5], axis=0)
        values = (auroc(y, scores), auprc(y, scores), auroc(y, scores) - auroc(y, beside))
        for place, name in enumerate(("auroc", "auprc", "auroc_difference")):
            item[name] = {"value": values[place], "interval": [float(low[place]), float(high[place])]}
        if contender.kind != "score":
            item["brier"] = brier(cohort.y, _calibrated(cohort.y, contender.scores, fold))
        made.append(item)
    return made


def _calibrated(y: Floats, scores: Floats, fold: NDArray[np.int64]) -> Floats:
    """Probabilities by a calibration that was fitted on the other folds."""
    found = np.zeros(len(y))
    for number in np.unique(fold):
        intercept, slope = logistic_fit(y[fold != number], scores[fold != number])
        found[fold == number] = sigmoid(intercept + slope * scores[fold == number])
    return found


def write_ablation(document: dict[str, Any], out: Path) -> None:
    """Writes ablation.json and ablation.html. Raises TrainingError where `out` is not empty."""
    check_new_folder(out)
    with atomic_folder(out) as coming:
        write_json(coming / "ablation.json", document)
        (coming / "ablation.html").write_text(_page(document), "utf-8")


def _page(document: Mapping[str, Any]) -> str:
    measured = [item for item in document["contenders"] if "auroc" in item]
    return render(
        "ablation.html",
        title=f"Ablation: {document['task']}",
        about=f"{document['rows']} rows of {document['patients']} patients, {document['outcomes']} with the outcome; "
        f"{document['measured_on']}. Differences from {document['reference']}, 95 % intervals by "
        f"{document['bootstraps']} paired resamples of patients.",
        contenders=measured,
        drawn=figures.differences(
            {item["name"]: item["auroc_difference"] for item in measured[1:]}, document["reference"]
        ),
        not_compared=document["not_compared"],
    )
