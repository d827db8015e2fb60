"""An evaluation as one HTML page: figures, tables, subgroups, and the TRIPOD+AI checklist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.reports import figures
from risk_model.reports.templating import render
from risk_model.reports.tripod import checklist

Floats = NDArray[np.float64]


def evaluation_page(
    title: str,
    about: str,
    metrics: Mapping[str, Any],
    outcome: Floats,
    probability: Floats,
    *,
    rivals: Mapping[str, Floats] | None = None,
    facts: Mapping[str, str] | None = None,
) -> str:
    """Returns the HTML report of one evaluation.

    `rivals` are the comparators' scores on the same rows, NaN where there is none; `facts` fill the checklist.
    """
    return render(
        "evaluation.html",
        title=title,
        about=about,
        tiles=_tiles(metrics),
        sentences=_sentences(metrics),
        figures=_figures(outcome, probability, rivals or {}),
        alerts=alerts(metrics, outcome, probability),
        comparators=metrics.get("comparators", {}),
        subgroups=metrics.get("subgroups", {}),
        coverage=coverage(metrics.get("conformal")),
        measures=measures(metrics),
        checklist=checklist(metrics, facts or {}),
    )


def _tiles(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    shown = (
        ("auroc", "AUROC", "a patient with the outcome is ranked above one without"),
        ("auprc", "AUPRC", "by chance it would be the prevalence" + _prevalence(metrics)),
        ("calibration_slope", "calibration slope", "1 is right; below 1 too extreme"),
        ("observed_expected", "observed : expected", "1 is right; above 1 too low"),
        ("brier", "Brier score", "mean squared error; less is better"),
    )
    return [
        {"metric": metrics[name], "label": label, "words": words} for name, label, words in shown if name in metrics
    ]


def _prevalence(metrics: Mapping[str, Any]) -> str:
    prevalence = metrics.get("prevalence")
    rate = prevalence["value"] if isinstance(prevalence, Mapping) else prevalence
    return "" if rate is None else f", {rate:.3f}"


def _sentences(metrics: Mapping[str, Any]) -> list[str]:
    """What a clinician needs first."""
    ppv, found = metrics.get("ppv_at_10_alerts_per_100"), metrics.get("sensitivity_at_10_alerts_per_100")
    sentences = []
    if ppv is not None and found is not None:
        sentences.append(
            f"If the 10 patients of 100 with the highest estimates were flagged, about {10 * ppv['value']:.1f} of them "
            f"would have the outcome, and these are {100 * found['value']:.0f} % of all who have it."
        )
    slope = metrics.get("calibration_slope")
    if slope is not None:
        low, high = slope["interval"]
        fits = "agree with" if low <= 1 <= high else "are too extreme for" if high < 1 else "are too cautious for"
        sentences.append(
            f"Spread of the estimates: they {fits} what was observed (slope {slope['value']:.2f}, {low:.2f} to "
            f"{high:.2f})."
        )
    return [*sentences, "All intervals are 95 % intervals from resampling patients, for patients like these."]


def _figures(outcome: Floats, probability: Floats, rivals: Mapping[str, Floats]) -> Sequence[tuple[str, str, str]]:
    return (
        (figures.calibration(outcome, probability), "Calibration", "On the line, estimates are what happens."),
        (figures.roc(outcome, probability, rivals), "ROC curve", "How well patients are ranked."),
        (figures.precision_recall(outcome, probability), "Precision and recall", "How many alerts are right."),
        (
            figures.distributions(outcome, probability),
            "Estimates by outcome",
            "Less overlap separates the outcomes better.",
        ),
        (figures.alerts(outcome, probability), "Alerts", "What more alerts buy, and what they cost."),
        (figures.decision_curve(outcome, probability), "Decision curve", "Use it only where it is the highest line."),
    )


def describe_measure(name: str) -> str:
    """
    >>> describe_measure("auroc"), describe_measure("ppv_at_5_alerts_per_100")
    ('AUROC', 'positive predictive value at 5 alerts per 100')
    >>> describe_measure("net_benefit_at_5_percent")
    'net benefit at a threshold of 5 %'
    """
    what, at, place = name.partition("_at_")
    words = _MEASURES.get(what, what.replace("_", " "))
    if place.endswith("_percent"):
        return f"{words} at a threshold of {place.removesuffix('_percent')} %"
    return f"{words} at {place.replace('_', ' ')}" if at else words


_MEASURES = {
    "auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier score", "observed_expected": "observed : expected",
    "ppv": "positive predictive value",
}  # fmt: skip


def measures(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the metrics of the whole cohort, each with its name in words."""
    return [
        (describe_measure(name), metric)
        for name, metric in metrics.items()
        if isinstance(metric, Mapping) and "interval" in metric
    ]


def alerts(metrics: Mapping[str, Any], outcome: Floats, probability: Floats) -> list[dict[str, Any]]:
    """Returns for each alert rate: the threshold, how many alerts are right, how many outcomes are found."""
    lines = []
    for rate in (5, 10, 20):
        threshold = float(np.quantile(probability, 1 - rate / 100))
        flagged = probability >= threshold
        ppv = metrics.get(f"ppv_at_{rate}_alerts_per_100")
        sensitivity = metrics.get(f"sensitivity_at_{rate}_alerts_per_100")
        known = ppv is not None and sensitivity is not None
        lines.append(
            {
                "rate": rate,
                "threshold": threshold,
                "ppv": ppv if known else None,
                "sensitivity": sensitivity,
                "alerts_per_outcome": 1 / max(ppv["value"], 1e-9) if ppv is not None else None,
                "with_outcome": float(outcome[flagged].mean()),
                "found": float(outcome[flagged].sum() / outcome.sum()),
            }
        )
    return lines


def coverage(conformal: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]] | None:
    """Returns how often the 90 % statements held, each with its words; None for a model that makes none."""
    if conformal is None:
        return None
    words = {
        "coverage": "Prediction sets that held the truth",
        "coverage_with_outcome": "… of patients with the outcome",
        "coverage_without_outcome": "… of patients without it",
        "rate_interval_coverage": "Groups of patients whose rate lay in the 90 % interval",
    }
    return [(label, conformal[name]) for name, label in words.items() if name in conformal]


def flat(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields every metric of a document with its path."""
    for name, value in metrics.items():
        if isinstance(value, Mapping) and "interval" in value:
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", metric) for inner, metric in flat(value))
