"""Tells a model that learned something from one that did not, before it is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from risk_model.training.gradient_boosting import Fit

_MORE = "bring more patients with the outcome, inputs that vary, or another task"


def why_useless(fitted: Fit, metrics: Mapping[str, Any]) -> str | None:
    """Returns why a fitted model must not be used, with what would help; None if nothing speaks against it.

    `metrics` are those of the rows out of fold.
    """
    if fitted.predictor.is_constant:
        return f"the model has no split or weight: it gives every patient the same estimate; {_MORE}"
    ranking, slope = float(metrics["auroc"]["value"]), float(metrics["calibration_slope"]["value"])
    if ranking <= 0.5 or fitted.calibration[1] <= 0:
        return (
            f"the model ranks patients no better than chance (AUROC {ranking:.3f} out of fold), or backwards: "
            f"what it learned does not hold for patients it has not seen; {_MORE}"
        )
    if not math.isfinite(slope):
        return (
            "the estimates out of fold are all the same or separate the outcomes completely, so they cannot be "
            f"calibrated; look for an input that states the outcome, or {_MORE}"
        )
    if slope <= 0:
        return (
            f"the calibration slope is {slope:.1f} out of fold: where the estimate is higher the outcome is rarer; "
            f"{_MORE}"
        )
    return None


def caution(metrics: Mapping[str, Any]) -> str | None:
    """Returns what a reader of the card must know though the model may be saved; None if nothing."""
    low, high = metrics["auroc"]["interval"]
    if low > 0.5:
        return None
    return (
        f"The AUROC could be that of chance: its 95 % interval, {low:.3f} to {high:.3f}, holds 0.5. More patients with "
        "the outcome are needed before anybody relies on it."
    )
