"""Paired differences between representations: of each task, and of the mean over tasks.

Every representation is resampled with the same patients, and a patient has the same weight in every task (see
`few_shot.patient_weights`), so the differences of two are paired, of one task and of their mean. Two-sided p values are
the share of resamples on the other side of zero, doubled, and never below what the number of resamples can show; they
are adjusted after Holm over all comparisons with the same k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.research.ehrshot_tasks import whole_task

Floats = NDArray[np.float64]
Samples = Mapping[str, Mapping[str, Floats]]
"""k -> representation -> AUROC of every resample (NaN where it holds one class only), the estimate in front."""
_LEAST = 0.5
"""The share of resamples that must hold both classes."""


def paired(contender: Floats, reference: Floats) -> dict[str, Any] | None:
    """Returns difference, 95 % interval and p; None where too few resamples hold both classes.

    >>> paired(np.array([0.8, 0.7, 0.9]), np.array([0.6, 0.6, 0.6]))["value"]
    0.2
    """
    differences = contender - reference
    resampled = differences[1:][np.isfinite(differences[1:])]
    if len(resampled) < max(1.0, _LEAST * (len(differences) - 1)):
        return None
    low, high = np.percentile(resampled, [2.5, 97.5])
    tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (len(resampled) + 1))
    return {"value": round(float(differences[0]), 12), "interval": [float(low), float(high)], "p": p}


def comparisons(tasks: Mapping[str, Samples], reference: str) -> dict[str, Any]:
    """`{"reference", "tasks": {task: {k: {name: comparison}}}, "mean": {k: {name: comparison}}}`.

    A comparison has `value`, `interval`, `p` and `p_holm`. The mean is over tasks; findings of one task count as one.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task, samples in tasks.items():
        for k, by_name in samples.items():
            compared = _against(by_name, reference)
            if compared:
                found.setdefault(task, {})[k] = compared
    means = {k: compared for k in _shots(tasks) if (compared := _against(_means(tasks, k), reference))}
    for k in _shots(tasks):
        _adjust([item for by_k in found.values() for item in by_k.get(k, {}).values()])
        _adjust(list(means.get(k, {}).values()))
    return {"reference": reference, "tasks": found, "mean": means}


def _against(by_name: Mapping[str, Floats], reference: str) -> dict[str, Any]:
    if reference not in by_name:
        return {}
    pairs = {name: paired(each, by_name[reference]) for name, each in by_name.items() if name != reference}
    return {name: item for name, item in pairs.items() if item is not None}


def _shots(tasks: Mapping[str, Samples]) -> list[str]:
    return list(dict.fromkeys(k for samples in tasks.values() for k in samples))


def _means(tasks: Mapping[str, Samples], k: str) -> dict[str, Floats]:
    """Representation -> mean over tasks of its resamples, findings of a task first."""
    names = list(dict.fromkeys(name for samples in tasks.values() for by_name in samples.values() for name in by_name))
    whole: dict[str, list[Mapping[str, Floats]]] = {}
    for task, samples in tasks.items():
        if all(name in samples.get(k, {}) for name in names):
            whole.setdefault(whole_task(task), []).append(samples[k])
    if not whole:
        return {}
    return {
        name: np.mean([np.mean([s[name] for s in each], axis=0) for each in whole.values()], axis=0) for name in names
    }


def _adjust(items: Sequence[dict[str, Any]]) -> None:
    """Adds `p_holm` to each.

    >>> listed = [{"p": 0.01}, {"p": 0.04}]
    >>> _adjust(listed); [item["p_holm"] for item in listed]
    [0.02, 0.04]
    """
    largest = 0.0
    for place, item in enumerate(sorted(items, key=lambda item: float(item["p"]))):
        largest = max(largest, min(1.0, float(item["p"]) * (len(items) - place)))
        item["p_holm"] = largest
