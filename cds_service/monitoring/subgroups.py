"""Monitoring by subgroup (S8): warning rate, abstention rate and calibration.

Groups are those the models' own inputs tell: age band, sex, both, intensive care, acute admission. Fewer than 100
patients are counted and not judged. Of each patient the newest card counts, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cds_service.monitoring.model_fit import BOOTSTRAPS, FEWEST_OF_A_KIND
from cds_service.store.history import Answered
from risk_model import RiskModel
from risk_model.evaluation import measure, subgroup_metrics
from risk_model.models import FEWEST, age_band, wilson_interval

UNKNOWN = "unknown"
_CALIBRATION = ("auroc", "observed_expected", "calibration_slope")


@dataclass(frozen=True, slots=True)
class Member:
    """The latest state of one patient: groups, whether a warning was shown, estimate, outcome."""

    groups: tuple[str, ...]
    warned: bool
    probability: float | None
    happened: bool | None


def subgroups(
    bodies: Iterable[Mapping[str, Any]], model: RiskModel, answered: Sequence[Answered]
) -> dict[str, dict[str, Any]]:
    """By group: patients, shares with 95 % intervals, calibration where outcomes are known. `bodies` newest first."""
    happened = {a.patient: a.happened for a in answered if a.task == model.task and a.happened is not None}
    members = list(_members(bodies, model, happened))
    names = dict.fromkeys(name for member in members for name in member.groups)
    return {name: _evaluated([member for member in members if name in member.groups]) for name in sorted(names)}


def _members(
    bodies: Iterable[Mapping[str, Any]], model: RiskModel, happened: Mapping[str, bool | None]
) -> Iterator[Member]:
    seen: set[str] = set()
    for body in bodies:
        patient = str(body["patient_hash"])
        for estimate in body["estimates"]:
            ours = estimate["task"] == model.task and estimate["model_sha256"] == model.fingerprint
            if not ours or patient in seen:
                continue
            seen.add(patient)
            known = dict(zip(model.names, estimate["inputs"], strict=False))
            warned = body["shown"] == "shown" and body["indicator"] != "info"
            yield Member(_groups(known), warned, estimate["probability"], happened.get(patient))


def _groups(known: Mapping[str, float | None]) -> tuple[str, ...]:
    """
    >>> _groups({"age.last": 70.0, "sex.female": 1.0, "intensive_care.last": 0.0})
    ('age 65 to 79', 'women', 'women 65 to 79', 'not in intensive care')
    >>> _groups({"age.last": None, "sex.female": 0.0})
    ('age unknown', 'men')
    """
    age, female = known.get("age.last"), known.get("sex.female")
    band = None if age is None else age_band(age)
    sex = None if female is None else "women" if female else "men"
    found = [f"age {band or UNKNOWN}", sex or f"sex {UNKNOWN}"]
    if band and sex:
        found.append(f"{sex} {band}")
    for name, yes, no in _EITHER:
        value = known.get(name)
        if value is not None:
            found.append(yes if value else no)
    return tuple(found)


_EITHER = (
    ("intensive_care.last", "in intensive care", "not in intensive care"),
    ("acute_admission.last", "acute admission", "planned admission"),
)


def _evaluated(members: Sequence[Member]) -> dict[str, Any]:
    count = len(members)
    if count < FEWEST:
        return {"patients": count, "reason": f"fewer than {FEWEST} patients: not judged"}
    estimates = np.array([m.probability for m in members if m.probability is not None], dtype=np.float64)
    found: dict[str, Any] = {
        "patients": count,
        "warned": _share(sum(m.warned for m in members), count),
        "withheld": _share(count - len(estimates), count),
    }
    if len(estimates) >= FEWEST:
        middle, error = float(estimates.mean()), 1.96 * float(estimates.std(ddof=1)) / len(estimates) ** 0.5
        found["mean_estimate"] = {"value": middle, "interval": [max(0.0, middle - error), min(1.0, middle + error)]}
    return found | _true(members)


def _true(members: Sequence[Member]) -> dict[str, Any]:
    """Discrimination and calibration of patients with a known outcome, or the reason for none."""
    known = [m for m in members if m.probability is not None and m.happened is not None]
    happened = np.array([bool(m.happened) for m in known], dtype=np.float64)
    facts = {"with_outcomes": len(known)}
    if len(known) < FEWEST or min(happened.sum(), len(known) - happened.sum()) < FEWEST_OF_A_KIND:
        return facts
    probabilities = np.array([m.probability for m in known], dtype=np.float64)
    each = [str(number) for number in range(len(known))]
    measured = measure(happened, probabilities, each, metrics=subgroup_metrics, bootstraps=BOOTSTRAPS)
    return facts | {name: measured[name] for name in _CALIBRATION}


def _share(part: int, whole: int) -> dict[str, Any]:
    return {"value": part / whole, "interval": list(wilson_interval(part, whole))}
