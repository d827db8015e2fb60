"""Whether a model still fits its patients: drift against training, calibration against imported outcomes.

Only the newest estimate of each patient counts. Only estimates of the model in use are compared; those of other
versions are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cds_service.store.history import Answered
from cds_service.store.store import Store
from risk_model import RiskModel
from risk_model.evaluation import measure, subgroup_metrics
from risk_model.models import (
    FEWEST,
    Drift,
    compare_distributions,
    compare_sample,
    compare_training_input,
    compare_training_probabilities,
    missingness,
)

MOST_CARDS = 20_000
FIRST_CARDS = 500
BOOTSTRAPS = 200
FEWEST_OF_A_KIND = 5
TRAINING, FIRST = "training", f"the first {FIRST_CARDS} cards kept"
_SHOWN = ("auroc", "calibration_slope", "calibration_intercept", "observed_expected", "brier", "prevalence")


def version_of(model: RiskModel) -> str:
    """The name of a model in the store."""
    return f"{model.manifest['model_id']} {model.manifest['version']}"


def latest(answered: Sequence[Answered], model: RiskModel) -> list[Answered]:
    """The newest estimate with a probability of each patient by this model; one with an outcome takes precedence."""
    found: dict[str, Answered] = {}
    for item in answered:
        if item.task != model.task or item.model != version_of(model) or item.probability is None:
            continue
        known = found.get(item.patient)
        if known is None or known.happened is None or item.happened is not None:
            found[item.patient] = item
    return list(found.values())


def drift(store: Store, model: RiskModel, since: datetime, answered: Sequence[Answered]) -> dict[str, Any]:
    """Inputs, estimates and missingness of the newest cards; each comparison names its reference."""
    own = latest(answered, model)
    others = sum(item.task == model.task and item.model != version_of(model) for item in answered)
    probabilities = np.array([item.probability for item in own], dtype=np.float64)
    compared = compare_distributions("probability", probabilities, compare_training_probabilities(model), TRAINING)
    first, begun = _rows(store.history.first(FIRST_CARDS), model)
    rows, entries = _rows(store.history.newest(since, MOST_CARDS), model)
    later = rows[~np.isin(entries, begun)]
    known = [float(item["known"]) for item in model.manifest["inputs"]]
    inputs = _inputs(model, rows, first, later)
    return {
        "model": version_of(model),
        "patients": len(rows),
        "estimates_of_other_versions": others,
        "probabilities": compared.to_json(),
        "inputs": [{"name": item.name, **item.to_json()} for item in inputs],
        "missingness": missingness(model.names, known, rows),
    }


def _rows(bodies: Iterable[Mapping[str, Any]], model: RiskModel) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The inputs (patients, inputs) of this model, the first entry of each patient, and the entries."""
    rows: dict[str, list[float]] = {}
    entries: list[int] = []
    for body in bodies:
        for estimate in body["estimates"]:
            ours = estimate["task"] == model.task and estimate["model_sha256"] == model.fingerprint
            if ours and body["patient_hash"] not in rows:
                rows[body["patient_hash"]] = [np.nan if v is None else v for v in estimate["inputs"]]
                entries.append(body["seq"])
    table = np.array(list(rows.values()), dtype=np.float32).reshape(len(rows), len(model.names))
    return table, np.array(entries, dtype=np.int64)


def _inputs(
    model: RiskModel, rows: NDArray[np.float32], first: NDArray[np.float32], later: NDArray[np.float32]
) -> list[Drift]:
    """Each input against training where its distribution is kept, else the later cards against the first ones.

    The most shifted come first.
    """
    found = []
    for place, name in enumerate(model.names):
        reference = compare_training_input(model, name)
        if reference is not None:
            found.append(compare_distributions(name, _column(rows, place), reference, TRAINING))
        else:
            found.append(
                compare_distributions(name, _column(later, place), compare_sample(_column(first, place)), FIRST)
            )
    return sorted(found, key=lambda item: (-(item.psi or 0.0), item.name))


def _column(rows: NDArray[np.float32], place: int) -> NDArray[np.float64]:
    return np.asarray(rows[:, place], dtype=np.float64)


def calibration(own: Sequence[Answered], model: RiskModel) -> dict[str, Any]:
    """Observed against expected, slope and intercept with 95 % intervals; needs 100 outcomes."""
    known, happened, probabilities = _with_outcome(own)
    facts = {"model": version_of(model), "patients": len(known), "with_the_outcome": int(happened.sum())}
    reason = _too_few(happened)
    if reason:
        return {**facts, "reason": reason}
    patients = [item.patient for item in known]
    measured = measure(happened, probabilities, patients, metrics=subgroup_metrics, bootstraps=BOOTSTRAPS)
    return facts | {name: measured[name] for name in _SHOWN}


def calibration_now(own: Sequence[Answered]) -> dict[str, float]:
    """The same figures without their intervals, which take hundreds of resamples; {} with too few."""
    _, happened, probabilities = _with_outcome(own)
    if _too_few(happened):
        return {}
    measured = subgroup_metrics(happened, probabilities)
    return {name: measured[name] for name in _SHOWN}


def _with_outcome(own: Sequence[Answered]) -> tuple[list[Answered], NDArray[np.float64], NDArray[np.float64]]:
    known = [item for item in own if item.happened is not None]
    happened = np.array([bool(item.happened) for item in known], dtype=np.float64)
    return known, happened, np.array([item.probability for item in known], dtype=np.float64)


def _too_few(happened: NDArray[np.float64]) -> str:
    """The reason for no result, or an empty string."""
    if len(happened) < FEWEST:
        return f"{len(happened)} patients with an outcome; fewer than {FEWEST} are not judged"
    if min(happened.sum(), len(happened) - happened.sum()) < FEWEST_OF_A_KIND:
        return f"fewer than {FEWEST_OF_A_KIND} patients of one of the two outcomes"
    return ""
