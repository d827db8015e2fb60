"""The few-shot protocol for record encoders (Hegselmann et al., arXiv 2502.17403, after EHRSHOT's benchmark).

k training rows with the outcome and k without, and as many of the validation split to choose the strength of
regularisation; k = 1 .. 128 and all; several draws for each k. Evaluated on the whole test split by AUROC and AUPRC
with patient-level bootstraps, averaged over the draws. With `chosen`, the draws are those of a file instead.
Representations:

- `embedding`: the record as text through a frozen encoder, scaled to a largest value of one, L2 logistic regression;
- `counts`: how often each code occurs before the prediction time, the same logistic regression;
- `counts_boosted`: gradient-boosted trees on the counts.

Any other matrix with a learner of `LEARNERS` can be compared with them (see `Representation`).
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import PatientRecord
from knowledge_index import Encoder
from knowledge_index.encoders import encode_long
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.core.errors import TrainingError
from risk_model.evaluation.metrics import auprc, auroc
from risk_model.features.record_encoding import SERIALISERS, instruction_for
from risk_model.features.rubrics import Rubric, filled
from risk_model.first_stage.fusion import present_findings
from risk_model.notes.rule_reader import NoteReader
from risk_model.predictors.boosting import xgboost

SHOTS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128)
STRENGTHS = tuple(10.0**power for power in range(-6, 7))
DRAWS = 5
_SPLITS = ("train", "validation", "test")
MOST_CODES = 5000
Floats = NDArray[np.float64]
Matrix = Any
"""Shape (rows, columns), float32: a NumPy array, or a SciPy sparse array of counts."""
Model = Callable[[Matrix], Floats]
Learner = Callable[[Matrix, Floats, Matrix, Floats], Model]


@dataclass(frozen=True, slots=True)
class FewShotSplit:
    """One split: outcomes (rows,), a person for each row, and representation name -> matrix (rows, columns)."""

    y: Floats
    persons: NDArray[np.str_]
    x: Mapping[str, Matrix]


@dataclass(frozen=True, slots=True)
class Representation:
    """What is evaluated: the matrix of that name with a learner of `LEARNERS`."""

    name: str
    matrix: str
    learner: str


RUBRIC = Representation("rubric", "rubric", "logistic")
EMBEDDING_AND_COUNTS = (
    Representation("embedding", "embedding", "logistic"),
    Representation("counts", "counts", "logistic"),
    Representation("counts_boosted", "counts", "boosted"),
)


def read_parts(
    cohort: LabelledCohort,
    encoder: Encoder,
    serialiser: str = "codes",
    budget: int = 8000,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    rubric: Rubric | None = None,
    reader: NoteReader | None = None,
) -> dict[str, FewShotSplit]:
    """The three splits, with a matrix `rubric` where one is given; its items on notes need a `reader`.

    Raises TrainingError where a split is empty or has one class only, before any record is embedded.
    """
    for split in _SPLITS:
        check(split, [row.label for row in cohort.split(split)])
    instruction = instruction_for(cohort.task)
    counted: dict[str, list[Counter[str]]] = {}
    vectors: dict[str, list[Matrix]] = {}
    labels: dict[str, list[tuple[int, str]]] = {}
    asked: dict[str, list[Matrix]] = {}
    done = 0
    for split in _SPLITS:
        for row, record in cohort.records(split):
            counted.setdefault(split, []).append(codes_of(record))
            text = SERIALISERS[serialiser](record, budget)
            vectors.setdefault(split, []).append(encode_long(encoder, [text], instruction)[0])
            labels.setdefault(split, []).append((row.label, row.person))
            if rubric is not None:
                present = None if reader is None else present_findings(reader.read(record.notes()))
                asked.setdefault(split, []).append(rubric.row(record, present))
            done += 1
            progress(done, len(cohort.rows))
    known = Counter(code for row in counted["train"] for code in row)
    vocabulary = {code: place for place, (code, _) in enumerate(sorted(known.most_common(MOST_CODES)))}
    return {
        split: FewShotSplit(
            np.array([float(label) for label, _ in labels[split]]),
            np.array([person for _, person in labels[split]]),
            {"embedding": np.stack(vectors[split]), "counts": _counts(counted[split], vocabulary)}
            | ({} if rubric is None else {"rubric": filled(np.stack(asked[split]), np.stack(asked["train"]))}),
        )
        for split in labels
    }


def check(split: str, labels: Sequence[float]) -> None:
    """Raises TrainingError if a split cannot be used for training or evaluation."""
    if not labels:
        raise TrainingError(f"the cohort has no rows in its {split} split; the protocol needs all three")
    if min(labels) == max(labels):
        raise TrainingError(f"the {split} split has one class only; the protocol needs both in each split")


def codes_of(record: PatientRecord) -> Counter[str]:
    """How often each code occurs up to the prediction time (MEDS codes)."""
    return Counter(str(row["code"]) for row in record.to_meds())


def _counts(rows: Sequence[Counter[str]], vocabulary: Mapping[str, int]) -> Matrix:
    matrix = np.zeros((len(rows), len(vocabulary)), dtype=np.float32)
    for place, row in enumerate(rows):
        for code, count in row.items():
            if code in vocabulary:
                matrix[place, vocabulary[code]] = count
    return matrix


@dataclass(frozen=True, slots=True)
class FewShotResult:
    """`table`: `{"1": {"embedding": {"auroc", "auprc"}, ...}, ..., "all": ...}`, each a value with its interval; a k
    with too few rows is `{"reason"}`. `samples`: k -> representation -> AUROC, then that of each resample, shape
    (1 + bootstraps,), NaN where a resample holds one class only.
    """

    table: dict[str, Any]
    samples: dict[str, dict[str, Floats]]


Chosen = Mapping[int, Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]]
"""k -> draws: places of the training rows and of the validation rows."""


def run_few_shot(
    parts: Mapping[str, FewShotSplit],
    *,
    representations: Sequence[Representation] = EMBEDDING_AND_COUNTS,
    shots: Sequence[int] = SHOTS,
    draws: int = DRAWS,
    bootstraps: int = 1000,
    chosen: Chosen | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> FewShotResult:
    """Returns the figures of every k and of all rows.

    A k with fewer than k rows of a class in training or validation is a reason instead of figures; `chosen` draws are
    used as they are, and draw a row of a small class repeatedly.
    """
    train, validation, test = (parts[split] for split in _SPLITS)
    weights = patient_weights(test.persons, bootstraps)
    few = min(_rarer(train.y), _rarer(validation.y))
    result = FewShotResult({}, {})
    for k in (*(shots if chosen is None else chosen), None):
        name = "all" if k is None else str(k)
        if k is not None and chosen is None and few < k:
            result.table[name] = {"reason": f"only {few} rows of the rarer outcome in training or validation"}
            continue
        say(f"k = {name}")
        rows = [
            (balanced(train.y, k, seed), balanced(validation.y, k, seed + 1000))
            for seed in range(1 if k is None else draws)
        ] if chosen is None or k is None else chosen[k]  # fmt: skip
        measured = {
            item.name: _measure(test, [_score(item, parts, *places) for places in rows], weights)
            for item in representations
        }
        result.table[name] = {name: figures for name, (figures, _) in measured.items()}
        result.samples[name] = {name: samples for name, (_, samples) in measured.items()}
    return result


def _score(
    item: Representation, parts: Mapping[str, FewShotSplit], rows: NDArray[np.int64], held_rows: NDArray[np.int64]
) -> Floats:
    """Test scores of a model from one draw."""
    train, validation, test = (parts[split] for split in _SPLITS)
    x, y = train.x[item.matrix][rows], train.y[rows]
    held, truth = validation.x[item.matrix][held_rows], validation.y[held_rows]
    return LEARNERS[item.learner](x, y, held, truth)(test.x[item.matrix])


def patient_weights(persons: NDArray[np.str_], bootstraps: int) -> NDArray[np.float64]:
    """How often each row counts in every resample of patients, shape (bootstraps, rows).

    A patient counts as often as a Poisson number with mean one says, drawn from the patient's id: the same in every
    task and for every representation, so that differences are paired (Hanley and MacGibbon, Comput Methods Programs
    Biomed 2006).
    """
    names, patient = np.unique(persons, return_inverse=True)
    seeds = [int.from_bytes(hashlib.sha256(f"bootstrap/{name}".encode()).digest()[:8]) for name in names]
    counts = np.stack([np.random.default_rng(seed).poisson(1.0, bootstraps) for seed in seeds], axis=1)
    return np.asarray(counts[:, patient], dtype=np.float64)


def balanced(y: Floats, k: int | None, seed: int) -> NDArray[np.int64]:
    """k rows of either outcome, drawn at random; all rows for None."""
    if k is None:
        return np.arange(len(y))
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.permutation(np.flatnonzero(y == truth))[:k] for truth in (0, 1)])


def _logistic(x: Matrix, y: Floats, held: Matrix, truth: Floats) -> Model:
    """L2 logistic regression; C by AUROC on the validation rows, the strongest regularisation among equals."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    def fitted(strength: float) -> Any:
        with warnings.catch_warnings():
            # Weakly regularised and separable: the direction converges long before the length of the weights.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return make_pipeline(MaxAbsScaler(), LogisticRegression(C=strength, max_iter=500)).fit(x, y)

    models = [fitted(strength) for strength in STRENGTHS]
    best = max(models, key=lambda model: auroc(truth, model.decision_function(held)))
    return lambda rows: np.asarray(best.decision_function(rows), dtype=np.float64)


def _boosted(x: Matrix, y: Floats, held: Matrix, truth: Floats) -> Model:
    """Trees on counts; the number of rounds by AUROC on the validation rows.

    The least weight of a leaf grows with the rows, up to one: a row weighs at most a quarter, so with a fixed weight of
    one two rows (k = 1) could never be parted, and all scores would be equal.
    """
    library = xgboost()
    settings = {
        "objective": "binary:logistic", "max_depth": 3, "eta": 0.1, "min_child_weight": min(1.0, len(y) / 100),
        "tree_method": "hist", "seed": 7, "nthread": 1,
    }  # fmt: skip
    booster = library.train(settings, library.DMatrix(x, label=y), num_boost_round=200)
    rounds = (5, 20, 50, 100, 200)
    data = library.DMatrix(held)
    best = max(rounds, key=lambda n: auroc(truth, booster.predict(data, iteration_range=(0, n)).astype(np.float64)))
    return lambda rows: np.asarray(booster.predict(library.DMatrix(rows), iteration_range=(0, best)), dtype=np.float64)


def _lightgbm(x: Matrix, y: Floats, held: Matrix, truth: Floats) -> Model:
    """LightGBM as EHRSHOT's count baseline: rate, depth and rounds by AUROC on the validation rows.

    A leaf may hold a single row: with k = 1 there would be no tree otherwise.
    """
    lightgbm = lightgbm_library()
    fixed = {
        "objective": "binary", "min_data_in_leaf": 1, "min_data_in_bin": 1, "num_leaves": 25, "verbosity": -1,
        "deterministic": True, "force_row_wise": True, "num_threads": 1, "seed": 7, "feature_pre_filter": False,
    }  # fmt: skip
    data = lightgbm.Dataset(x, label=y, free_raw_data=False, params=fixed)
    boosters = [
        lightgbm.train(fixed | {"learning_rate": rate, "max_depth": depth}, data, num_boost_round=_TREES[-1])
        for rate in (0.02, 0.1, 0.5)
        for depth in (3, -1)
    ]
    grid = [(booster, rounds) for booster in boosters for rounds in _TREES]
    best, best_rounds = max(grid, key=lambda item: auroc(truth, item[0].predict(held, num_iteration=item[1])))
    return lambda rows: np.asarray(best.predict(rows, num_iteration=best_rounds), dtype=np.float64)


def lightgbm_library() -> Any:
    """The lightgbm module. Raises TrainingError where it is not installed."""
    try:
        import lightgbm
    except ImportError:
        raise TrainingError(
            'the counts baseline needs lightgbm: pip install "riskcards[benchmark]" (in a checkout: make llm)'
        ) from None
    return lightgbm


LEARNERS: Mapping[str, Learner] = {"logistic": _logistic, "boosted": _boosted, "lightgbm": _lightgbm}
_TREES = (10, 30, 100)


def _measure(
    test: FewShotSplit, scores: Sequence[Floats], weights: NDArray[np.float64]
) -> tuple[dict[str, Any], Floats]:
    """AUROC and AUPRC averaged over draws, with intervals from resampling patients; and the resamples of AUROC."""
    metrics = {"auroc": auroc, "auprc": auprc}
    usable = [0 < weight @ test.y < weight.sum() for weight in weights]
    found: dict[str, Any] = {}
    samples: dict[str, Floats] = {}
    for name, metric in metrics.items():
        value = float(np.mean([metric(test.y, score, None) for score in scores]))
        resampled = [
            float(np.mean([metric(test.y, score, weight) for score in scores])) if both else np.nan
            for weight, both in zip(weights, usable, strict=True)
        ]
        samples[name] = np.array([value, *resampled])
        if not any(usable):
            raise TrainingError("too few patients to resample: no resample of the test split holds both outcomes")
        found[name] = {"value": value, "interval": [float(v) for v in np.nanpercentile(resampled, [2.5, 97.5])]}
    return found, samples["auroc"]


def _rarer(y: Floats) -> int:
    return int(min(y.sum(), (1 - y).sum()))
