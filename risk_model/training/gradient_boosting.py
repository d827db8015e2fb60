"""Fitting stage 2: a learner, cross-fitted by patient, calibrated out of fold, saved without pickle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_store import Workers, write_json, write_manifest
from risk_model.applicability.out_of_distribution import Distribution
from risk_model.core.artifacts import FORMAT
from risk_model.core.errors import TrainingError
from risk_model.evaluation.metrics import logistic_fit
from risk_model.features.encoding import Encoding, encoding_for
from risk_model.first_stage.fusion import Block, Fused, Head, Learned, cross_fit, moved_by_notes, without_notes
from risk_model.first_stage.training_rows import FOLDS, TrainingRows, patient_folds
from risk_model.models.conformal import Conformal, categories_of
from risk_model.models.note_bounds import within
from risk_model.predictors.boosting import forgetful, reference_rows
from risk_model.predictors.file_formats import Predictor
from risk_model.training.learners import DEFAULT, learner_named

BINS = 40
_NAMED = 8  # inputs that a message lists
_WORTH_THREADS = 200_000  # numbers; below it threads wait for each other longer than they work
# Small trees, several to a round, each seeing few rows and inputs: chosen by cross-validation on the training patients.
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "in_hospital_mortality": {
        "max_depth": 3, "eta": 0.04, "subsample": 0.6, "colsample_bytree": 0.25, "min_child_weight": 6, "lambda": 8.0,
        "max_bin": 64, "num_parallel_tree": 3, "rounds": 350,
    },
    "readmission_30d": {
        "max_depth": 4, "eta": 0.04, "subsample": 0.7, "colsample_bytree": 0.4, "min_child_weight": 20, "lambda": 5.0,
        "max_bin": 64, "rounds": 500,
    },
}  # fmt: skip


# Of a site's own task: deeper trees than for death in intensive care, since its inputs hold diagnoses beside values.
DEFAULT_PARAMETERS: Mapping[str, Any] = {
    "max_depth": 5, "eta": 0.03, "subsample": 0.6, "colsample_bytree": 0.3, "min_child_weight": 5, "lambda": 5.0,
    "num_parallel_tree": 3, "rounds": 250,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model: the predictor, its calibration (intercept, slope on the margin), out-of-fold probabilities.

    A row's out-of-fold probability comes from a first stage, a predictor and a calibration that never saw its patient.
    """

    predictor: Predictor
    calibration: tuple[float, float]
    out_of_fold: NDArray[np.float64]
    parameters: Mapping[str, Any]
    names: tuple[str, ...]
    """Inputs of the cohort that were used; the inputs of the model go on with the columns of stage 1."""
    dropped: tuple[str, ...]
    """Inputs left out because they were constant."""
    heads: tuple[Head, ...]
    fold: NDArray[np.int64]
    conformal: Conformal
    distribution: Distribution
    note_bound: float | None = None
    columns: tuple[tuple[str, float], ...] = ()
    """Names of the columns of stage 1 in their order, and the share of rows that have each."""
    also: tuple[Learned, ...] = ()
    """What the further first stages learned from all rows."""
    encoding: Encoding = field(default_factory=lambda: encoding_for("", ()))
    medians: tuple[float | None, ...] = ()
    """Median of each input of the encoding among the training rows; None if it is never known."""
    learner: str = DEFAULT

    @property
    def row_names(self) -> tuple[str, ...]:
        return (*self.names, *(name for name, _ in self.columns))


def fit(
    cohort: TrainingRows,
    *,
    threads: int = 2,
    progress: Callable[[str], None] = lambda _: None,
    parameters: Mapping[str, Any] | None = None,
    also: Sequence[Block] = (),
    note_bound: float | None = None,
    learner: str = DEFAULT,
    search: bool = False,
    workers: Workers | None = None,
) -> Fit:
    """Cross-fit by patient, calibrate on the out-of-fold log-odds (Platt), then fit once on everything.

    `parameters` are those of boosting. With `search` the settings of the learner are chosen by cross-validation: for
    each fold within the others, and once on all rows for the model that is kept.

    `also` are further first stages. With `note_bound` out-of-fold probabilities are held that near, in log-odds, to
    what the same model says without notes, as they are in service where a language model reads (see `note_bounds`): so
    are then the prediction sets, the intervals and all metrics that are made of them.

    Raises TrainingError if the cohort is unusable for training: no outcomes, too few, or a fold with one class only.
    Also for a learner that is unknown or not installed.
    """
    named = (learner, dict(parameters or PARAMETERS.get(cohort.task, DEFAULT_PARAMETERS)))
    method = learner_named(*named)
    cohort.check()
    dropped = cohort.constants()
    if dropped:
        more = f" and {len(dropped) - _NAMED} more, listed in the manifest" if len(dropped) > _NAMED else ""
        progress(f"left out, the same in every row: {', '.join(dropped[:_NAMED])}{more}")
    cohort = cohort.select([name for name in cohort.names if name not in dropped])
    if not cohort.names and not cohort.blocks:
        raise TrainingError("every input is the same in all rows; there is nothing to learn from")
    threads = threads if cohort.x.size > _WORTH_THREADS else 1
    fold = patient_folds(cohort.patients, FOLDS, cohort.y)
    raw, without = _held_out(
        cohort, fold, named, threads=threads, progress=progress, also=also, forget_notes=note_bound is not None,
        search=search, workers=workers,
    )  # fmt: skip
    calibration = logistic_fit(cohort.y, raw)
    progress("all rows")
    fused = _fused(cohort, np.ones(len(cohort.y), bool), fold, also)
    x = np.hstack([cohort.x, fused.columns])
    encoding = encoding_for(cohort.task, (*cohort.names, *fused.names))
    settings = method.chosen(x, cohort.y, cohort.patients, encoding) if search else method.grid[0]
    predictor = method.fit(x, cohort.y, encoding, settings, threads, forget_notes=note_bound is not None)
    probability = _cross_calibrated(cohort.y, raw, fold, raw)
    if note_bound is not None:
        probability = held(probability, _cross_calibrated(cohort.y, raw, fold, without), note_bound)
    categories = categories_of(cohort.names, cohort.x)
    conformal = Conformal.calibrate(cohort.y, probability, cohort.patients, categories)
    progress("what training patients look like")
    # Inputs from notes never make a patient an outlier: a language model could say anything.
    recorded = np.where([moved_by_notes(name) for name in cohort.names], np.float32(np.nan), cohort.x)
    distribution = Distribution.fit(cohort.names, recorded, fold)
    known = np.isfinite(forgetful(fused.columns, fused.names, note_bound is not None)).mean(axis=0).tolist()
    return Fit(
        predictor, calibration, probability, settings, cohort.names, dropped, fused.heads, fold, conformal,
        distribution, note_bound, tuple(zip(fused.names, known, strict=True)), fused.learned[len(cohort.blocks) :],
        encoding, tuple(_median(column) for column in x.T), learner,
    )  # fmt: skip


def held_out_margins(
    cohort: TrainingRows,
    fold: NDArray[np.int64],
    parameters: Mapping[str, Any],
    *,
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
    learn: NDArray[np.bool_] | None = None,
    also: Sequence[Block] = (),
    learner: str = DEFAULT,
) -> NDArray[np.float64]:
    """Log-odds of each row, shape (n,), from heads and boosted trees that saw no row of its fold; not yet calibrated.

    `learn` are the rows that may be learned from, all by default; `also` are further first stages, fitted anew for each
    fold as the cohort's own are. Folds may be anything that keeps a patient's rows together: `patient_folds`, or one
    hospital each. `learner` is another of `learners.LEARNERS` in place of the trees. Raises TrainingError for a fold
    that holds, or leaves, one class only.
    """
    method = (learner, parameters)
    return _held_out(cohort, fold, method, threads=threads, progress=progress, learn=learn, also=also)[0]


def _held_out(
    cohort: TrainingRows,
    fold: NDArray[np.int64],
    learner: tuple[str, Mapping[str, Any]],
    *,
    threads: int,
    progress: Callable[[str], None],
    learn: NDArray[np.bool_] | None = None,
    also: Sequence[Block] = (),
    forget_notes: bool = False,
    search: bool = False,
    workers: Workers | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(log-odds of each row, log-odds of the same row without anything from notes), as `held_out_margins`."""
    raw, without = np.zeros(len(cohort.y)), np.zeros(len(cohort.y))
    folds = np.unique(fold)
    fits = _FoldFits(replace(cohort, blocks=()), fold, learner, threads, learn, forget_notes, search)

    def stages() -> Iterator[tuple[int, Fused]]:
        for place, number in enumerate(folds.tolist()):
            _check_fold(cohort.y, fold == number, place, len(folds))
            progress(f"fold {place + 1} of {len(folds)}")
            fused = _fused(cohort, fold != number, fold, also)
            yield number, Fused(fused.columns, fused.names, ())

    margins = (workers or Workers()).map(fits.margins, stages())
    for number, (with_notes, without_them) in zip(folds, margins, strict=True):
        raw[fold == number], without[fold == number] = with_notes, without_them
    return raw, without


@dataclass(frozen=True, slots=True)
class _FoldFits:
    """Fits a learner, by name and parameters, to all folds but one; a value that can be sent to workers."""

    cohort: TrainingRows
    fold: NDArray[np.int64]
    learner: tuple[str, Mapping[str, Any]]
    threads: int
    learn: NDArray[np.bool_] | None
    forget_notes: bool
    search: bool

    def margins(self, stage: tuple[int, Fused]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the log-odds of the rows of a fold, with and without notes; `stage` is its number and stage 1."""
        number, fused = stage
        method, cohort = learner_named(*self.learner), self.cohort
        inside, outside = self.fold != number, self.fold == number
        x, names = np.hstack([cohort.x, fused.columns]), (*cohort.names, *fused.names)
        encoding = encoding_for(cohort.task, names)
        used = inside if self.learn is None else inside & self.learn
        people = [patient for patient, kept in zip(cohort.patients, used, strict=True) if kept]
        settings = method.chosen(x[used], cohort.y[used], people, encoding) if self.search else method.grid[0]
        forget = self.forget_notes
        predictor = method.fit(x[used], cohort.y[used], encoding, settings, self.threads, forget_notes=forget)
        asked = (x[outside], without_notes(names, x[outside]))
        with_notes, without = (predictor.margins(encoding.columns_of(rows)) for rows in asked)
        return with_notes, without


def held(probability: NDArray[np.float64], anchor: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Each probability within `bound` (log-odds) of its anchor, shape (n,)."""
    pairs = zip(probability.tolist(), anchor.tolist(), strict=True)
    return np.array([within(each, near, bound).probability for each, near in pairs])


def _check_fold(y: NDArray[np.float64], outside: NDArray[np.bool_], number: int, folds: int) -> None:
    for rows, words in ((outside, "held out"), (~outside, "to learn from")):
        if not rows.any() or y[rows].min() == y[rows].max():
            which = f"fold {number + 1} of {folds}: the rows {words} have one class only"
            raise TrainingError(f"{which}; outcomes of more patients are needed")


def _fused(
    cohort: TrainingRows, inside: NDArray[np.bool_], fold: NDArray[np.int64], also: Sequence[Block] = ()
) -> Fused:
    """Stage 1 of all rows, cross-fitted within `inside`; no columns where there is none."""
    blocks = (*cohort.blocks, *also)
    if not blocks:
        return Fused(np.zeros((len(cohort.y), 0), np.float32), (), ())
    return cross_fit(blocks, cohort.y, inside, fold)


def _cross_calibrated(
    y: NDArray[np.float64], raw: NDArray[np.float64], fold: NDArray[np.int64], asked: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities of the log-odds `asked`, by a calibration that was fitted on `raw` of the other folds: a slope of
    one by construction proves nothing."""
    probability = np.zeros(len(y))
    for number in range(FOLDS):
        a, b = logistic_fit(y[fold != number], raw[fold != number])
        probability[fold == number] = 1 / (1 + np.exp(-(a + b * asked[fold == number])))
    return probability


def predict(result: Fit, cohort: TrainingRows) -> NDArray[np.float64]:
    """Calibrated probabilities for other rows, shape (n,). Raises TrainingError for a fit with further first stages:
    only a served model has them (`language.first_stage`)."""
    if result.also:
        raise TrainingError("rows alone do not hold what the first stage reads; open the saved model")
    x = cohort.select(result.names).x
    vectors = {block.source: block.vectors for block in cohort.blocks}
    columns = [head(vectors[head.source])[:, None] for head in result.heads]
    raw = result.predictor.margins(result.encoding.columns_of(np.hstack([x, *columns])))
    return np.asarray(1 / (1 + np.exp(-(result.calibration[0] + result.calibration[1] * raw))))


def reliability(outcome: NDArray[np.float64], probability: NDArray[np.float64]) -> list[dict[str, float]]:
    """Out-of-fold patients in bins of equal size: mean probability, patients, outcomes. The basis of every interval."""
    order = np.argsort(probability, kind="stable")
    bins = np.array_split(order, min(BINS, max(1, len(order) // 50)))
    return [
        {"probability": round(float(probability[b].mean()), 6), "patients": len(b), "outcomes": int(outcome[b].sum())}
        for b in bins
    ]


def save(
    folder: Path,
    result: Fit,
    cohort: TrainingRows,
    *,
    model_id: str,
    version: str,
    population: Mapping[str, Any],
    card: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
    documents: Mapping[str, bytes] | None = None,
) -> None:
    """Write the model (its predictor's own file), what training patients looked like, the card, and the manifest.

    `facts` are further keys of the manifest, for example the encoder that the heads' vectors came from; `documents`
    further files of the folder, signed as the others are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / result.predictor.file).write_bytes(result.predictor.to_bytes())
    write_json(folder / "card.json", card)
    write_json(folder / "distribution.json", result.distribution.to_json(), indent=False)
    names = [result.predictor.file, "card.json", "distribution.json"]
    if result.heads:
        write_json(folder / "heads.json", [head.to_json() for head in result.heads], indent=False)
        names.append("heads.json")
    for name, content in (documents or {}).items():
        (folder / name).write_bytes(content)
        names.append(name)
    cohort = cohort.select(result.names)
    described = _with_medians([*_inputs(cohort, result.note_bound is not None), *_stage_inputs(result)], result)
    manifest = {
        "format": FORMAT,
        "model_id": model_id,
        "version": version,
        "task": cohort.task,
        "inputs": described,
        "encoding": result.encoding.to_json(),
        "reference_margins": result.predictor.margins(result.encoding.columns_of(reference_rows(described))).tolist(),
        "dropped": list(result.dropped),
        "calibration": {"intercept": result.calibration[0], "slope": result.calibration[1]},
        "reliability": reliability(cohort.y, result.out_of_fold),
        "conformal": result.conformal.to_json(),
        "baseline": float(cohort.y.mean()),
        "rows": len(cohort.y),
        "patients": len(set(cohort.patients)),
        "outcomes": int(cohort.y.sum()),
        "learner": result.learner,
        "parameters": dict(result.parameters),
        "population": dict(population),
        **(facts or {}),
        **({} if result.note_bound is None else {"note_bound": result.note_bound}),
    }
    write_manifest(folder, manifest, names)


def _inputs(cohort: TrainingRows, forget_notes: bool) -> list[dict[str, Any]]:
    """Of each input: how often it is known, its range, and its typical value among rows without the outcome."""
    known = np.isfinite(forgetful(cohort.x, cohort.names, forget_notes))
    low, high = _ranges(cohort.x)
    typical = [_median(column[cohort.y == 0]) for column in cohort.x.T]
    return [
        {"name": name, "known": round(float(known[:, i].mean()), 4), "low": low[i], "high": high[i]}
        | {"typical": typical[i]}
        for i, name in enumerate(cohort.names)
    ]


def _with_medians(described: list[dict[str, Any]], result: Fit) -> list[dict[str, Any]]:
    return [item | {"median": median} for item, median in zip(described, result.medians, strict=True)]


def _stage_inputs(result: Fit) -> list[dict[str, Any]]:
    return [{"name": name, "known": round(known, 4)} for name, known in result.columns]


def _median(values: NDArray[np.float32]) -> float | None:
    known = values[np.isfinite(values)]
    return round(float(np.median(known)), 4) if len(known) else None


def _ranges(x: NDArray[np.float32]) -> tuple[list[float | None], list[float | None]]:
    """The 0.1st and 99.9th percentile of each input where it is known at all."""
    low: list[float | None] = []
    high: list[float | None] = []
    for column in x.T:
        values = column[np.isfinite(column)]
        low.append(round(float(np.percentile(values, 0.1)), 4) if len(values) else None)
        high.append(round(float(np.percentile(values, 99.9)), 4) if len(values) else None)
    return low, high
