"""The few-shot protocol for record encoders (Hegselmann et al., arXiv 2502.17403, after EHRSHOT's benchmark).

k rows with the outcome and k without to learn from, and k and k of the validation split to choose the strength of
regularisation by; k = 1 .. 128 and all there are; several draws for each k. Judged on the whole test split by AUROC
and AUPRC with patient-level bootstraps, averaged over the draws. Representations:

- `embedding`: the record as text through a frozen encoder, scaled to a largest value of one, L2 logistic regression;
- `counts`: how often each code occurs before the prediction time, the same logistic regression;
- `counts_boosted`: gradient-boosted trees on the counts.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import PatientRecord
from knowledge_index import Encoder
from risk_model.boosting import xgboost
from risk_model.cohort import LabelledCohort
from risk_model.errors import TrainingError
from risk_model.metrics import auprc, auroc

SHOTS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128)
STRENGTHS = tuple(10.0**power for power in range(-6, 7))
DRAWS = 5
CHUNK_CHARACTERS = 1000
MOST_CODES = 5000
SERIALISERS: Mapping[str, Callable[[PatientRecord, int], str]] = {
    "codes": PatientRecord.to_codes,
    "markdown": PatientRecord.to_markdown,
}
Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]
Model = Callable[[Matrix], Floats]


@dataclass(frozen=True, slots=True)
class Part:
    """One split: outcomes (rows,), a person for each row, and representation name -> matrix (rows, columns)."""

    y: Floats
    persons: NDArray[np.str_]
    x: Mapping[str, Matrix]


def read_parts(
    cohort: LabelledCohort,
    encoder: Encoder,
    serialiser: str = "codes",
    budget: int = 8000,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Part]:
    """The three splits. Raises TrainingError where one is empty or has one class only."""
    counted: dict[str, list[Counter[str]]] = {}
    vectors: dict[str, list[Matrix]] = {}
    labels: dict[str, list[tuple[int, str]]] = {}
    done = 0
    for split in ("train", "validation", "test"):
        for row, record in cohort.records(split):
            counted.setdefault(split, []).append(codes_of(record))
            vectors.setdefault(split, []).append(embed(encoder, SERIALISERS[serialiser](record, budget)))
            labels.setdefault(split, []).append((row.label, row.person))
            done += 1
            progress(done, len(cohort.rows))
        _check(split, [label for label, _ in labels.get(split, [])])
    known = Counter(code for row in counted["train"] for code in row)
    vocabulary = {code: place for place, (code, _) in enumerate(sorted(known.most_common(MOST_CODES)))}
    return {
        split: Part(
            np.array([float(label) for label, _ in labels[split]]),
            np.array([person for _, person in labels[split]]),
            {"embedding": np.stack(vectors[split]), "counts": _counts(counted[split], vocabulary)},
        )
        for split in labels
    }


def _check(split: str, labels: Sequence[int]) -> None:
    if not labels:
        raise TrainingError(f"the cohort has no rows in its {split} split; the protocol needs all three")
    if min(labels) == max(labels):
        raise TrainingError(f"the {split} split has one class only; the protocol needs both in each split")


def codes_of(record: PatientRecord) -> Counter[str]:
    """How often each code occurs up to the prediction time (MEDS codes)."""
    return Counter(str(row["code"]) for row in record.to_meds())


def embed(encoder: Encoder, text: str) -> Matrix:
    """Mean of the embeddings of the text's pieces, shape (dimensions,), L2-normalised; zeros for no text."""
    pieces = [text[at : at + CHUNK_CHARACTERS] for at in range(0, len(text), CHUNK_CHARACTERS)]
    if not pieces:
        return np.zeros(encoder.dimensions, dtype=np.float32)
    mean = encoder.encode(pieces).mean(axis=0)
    return np.asarray(mean / (np.linalg.norm(mean) or 1.0), dtype=np.float32)


def _counts(rows: Sequence[Counter[str]], vocabulary: Mapping[str, int]) -> Matrix:
    matrix = np.zeros((len(rows), len(vocabulary)), dtype=np.float32)
    for place, row in enumerate(rows):
        for code, count in row.items():
            if code in vocabulary:
                matrix[place, vocabulary[code]] = count
    return matrix


def run(
    parts: Mapping[str, Part],
    *,
    shots: Sequence[int] = SHOTS,
    draws: int = DRAWS,
    bootstraps: int = 1000,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """`{"1": {"embedding": {"auroc", "auprc"}, ...}, ..., "all": ...}`, each a value with its interval.

    A k with fewer than k rows of a class in training or validation is a reason instead of figures.
    """
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    found: dict[str, Any] = {}
    for k in (*shots, None):
        name = "all" if k is None else str(k)
        few = min(_rarer(train.y), _rarer(validation.y))
        if k is not None and few < k:
            found[name] = {"reason": f"only {few} rows of the rarer outcome in training or validation"}
            continue
        say(f"k = {name}")
        found[name] = {
            kind: _judge(test, [_score(kind, parts, k, seed) for seed in range(1 if k is None else draws)], bootstraps)
            for kind in ("embedding", "counts", "counts_boosted")
        }
    return found


def _score(kind: str, parts: Mapping[str, Part], k: int | None, seed: int) -> Floats:
    """Test scores of a model from one balanced draw."""
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    chosen, judged = balanced(train.y, k, seed), balanced(validation.y, k, seed + 1000)
    matrix = kind.removesuffix("_boosted")
    x, y = train.x[matrix][chosen], train.y[chosen]
    held, truth = validation.x[matrix][judged], validation.y[judged]
    model = _boosted(x, y, held, truth) if kind.endswith("_boosted") else _logistic(x, y, held, truth)
    return model(test.x[matrix])


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
            # Weakly regularised and separable: the direction stands long before the length of the weights does.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return make_pipeline(MaxAbsScaler(), LogisticRegression(C=strength, max_iter=500)).fit(x, y)

    models = [fitted(strength) for strength in STRENGTHS]
    best = max(models, key=lambda model: auroc(truth, model.decision_function(held)))
    return lambda rows: np.asarray(best.decision_function(rows), dtype=np.float64)


def _boosted(x: Matrix, y: Floats, held: Matrix, truth: Floats) -> Model:
    """Trees on counts; the number of rounds by AUROC on the validation rows."""
    library = xgboost()
    settings = {
        "objective": "binary:logistic", "max_depth": 3, "eta": 0.1, "min_child_weight": 1, "tree_method": "hist",
        "seed": 7, "nthread": 1,
    }  # fmt: skip
    booster = library.train(settings, library.DMatrix(x, label=y), num_boost_round=200)
    rounds = (5, 20, 50, 100, 200)
    data = library.DMatrix(held)
    best = max(rounds, key=lambda n: auroc(truth, booster.predict(data, iteration_range=(0, n)).astype(np.float64)))
    return lambda rows: np.asarray(booster.predict(library.DMatrix(rows), iteration_range=(0, best)), dtype=np.float64)


def _judge(test: Part, scores: Sequence[Floats], bootstraps: int) -> dict[str, Any]:
    """AUROC and AUPRC averaged over draws, with intervals from resampling patients."""
    _, patient = np.unique(test.persons, return_inverse=True)
    count = int(patient.max()) + 1
    generator = np.random.default_rng(0)
    metrics = {"auroc": auroc, "auprc": auprc}
    samples: dict[str, list[float]] = {name: [] for name in metrics}
    for _ in range(bootstraps):
        drawn = np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64)[patient]
        if 0 < drawn @ test.y < drawn.sum():
            for name, metric in metrics.items():
                samples[name].append(float(np.mean([metric(test.y, score, drawn) for score in scores])))
    return {
        name: {
            "value": float(np.mean([metric(test.y, score, None) for score in scores])),
            "interval": [float(v) for v in np.percentile(samples[name], [2.5, 97.5])],
        }
        for name, metric in metrics.items()
    }


def _rarer(y: Floats) -> int:
    return int(min(y.sum(), (1 - y).sum()))
