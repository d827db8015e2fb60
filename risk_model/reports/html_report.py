"""An evaluation as one HTML page: figures as SVG, tables, no script, nothing from another host, fit for print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.reports import figures
from risk_model.reports.tripod import checklist

Floats = NDArray[np.float64]
FOOT = (
    "riskcards informs clinicians; it does not decide, diagnose or direct care. Estimates come from patients of the "
    "past elsewhere."
)


@cache
def shared_stylesheet() -> str:
    """The stylesheet that the app, the reports and the demo share: colours, type, tables, print."""
    return files("risk_model.tables").joinpath("shared.css").read_text("utf-8")


@cache
def _style() -> str:
    return shared_stylesheet() + files("risk_model.tables").joinpath("report.css").read_text("utf-8")


def html_page(title: str, body: str) -> str:
    """A whole page around already escaped `body`: what stands before its first <h2> is the page's head, and each <h2>
    begins a panel.
    """
    head, *sections = body.split("<h2>")
    panels = "".join(f"<section class=panel><h2>{section}</section>" for section in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_style()}</style></head>'
        f"<body><header class=banner>{head}</header><main>{panels}</main>"
        f"<footer class=foot><p>{FOOT}</p></footer></body></html>\n"
    )


def html_table(head: Sequence[str], rows: str, caption: str = "") -> str:
    """A table that scrolls sideways where it must. `rows` are escaped; a head that begins with ">" is over numbers."""
    heads = "".join(
        f"<th scope=col class=n>{escape(name[1:])}</th>"
        if name.startswith(">")
        else f"<th scope=col>{escape(name)}</th>"
        for name in head
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f"<div class='table scroll' tabindex=0 role=group aria-label='{escape(caption) or 'Table'}'><table>{title}"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def evaluation(
    title: str,
    about: str,
    metrics: Mapping[str, Any],
    outcome: Floats,
    probability: Floats,
    *,
    rivals: Mapping[str, Floats] | None = None,
    facts: Mapping[str, str] | None = None,
) -> str:
    """The report of one evaluation.

    `rivals` are the comparators' scores on the same rows, NaN where there is none; `facts` fill the checklist.
    """
    body = (
        f"<h1>{escape(title)}</h1><p class=dim>{escape(about)}</p>{_key(metrics)}{_in_words(metrics)}"
        f"<h2>Figures</h2><div class=figures>{_figures(outcome, probability, rivals or {})}</div>"
        f"<h2>What a ward would see</h2>{alert_table(metrics, outcome, probability)}"
        f"<h2>Beside established scores</h2>{comparator_table(metrics)}"
        f"<h2>Subgroups</h2>{subgroup_table(metrics.get('subgroups', {}))}"
        f"<h2>Are the statements beside an estimate true?</h2>{coverage_table(metrics.get('conformal'))}"
        f"<h2>All measures</h2>{metric_table(metrics)}"
        f"<h2>TRIPOD+AI checklist</h2>{_checklist(metrics, facts or {})}"
    )
    return html_page(title, body)


def _key(metrics: Mapping[str, Any]) -> str:
    shown = (
        ("auroc", "AUROC", "a patient with the outcome is ranked above one without"),
        ("calibration_slope", "calibration slope", "1 is right; below 1 too extreme"),
        ("observed_expected", "observed : expected", "1 is right; above 1 too low"),
        ("brier", "Brier score", "mean squared error; less is better"),
    )
    tiles = [_tile(metrics[name], label, words) for name, label, words in shown if name in metrics]
    if "auprc" in metrics:
        by_chance = metrics.get("prevalence")
        rate = by_chance["value"] if isinstance(by_chance, Mapping) else by_chance
        words = "by chance it would be the prevalence" + ("" if rate is None else f", {rate:.3f}")
        tiles.insert(1, _tile(metrics["auprc"], "AUPRC", words))
    return f"<div class=key>{''.join(tiles)}</div>"


def _tile(metric: Mapping[str, Any], label: str, words: str) -> str:
    low, high = metric["interval"]
    value = f"<b>{metric['value']:.3f}</b><span>{low:.3f} to {high:.3f}</span>"
    return f"<div>{escape(label)}{value}<br><span>{escape(words)}</span></div>"


def _in_words(metrics: Mapping[str, Any]) -> str:
    """The two sentences a clinician needs first."""
    ppv, found = metrics.get("ppv_at_10_alerts_per_100"), metrics.get("sensitivity_at_10_alerts_per_100")
    lines = []
    if ppv is not None and found is not None:
        lines.append(
            f"If the 10 patients of 100 with the highest estimates were flagged, about {10 * ppv['value']:.1f} of them "
            f"would have the outcome, and these are {100 * found['value']:.0f} % of all who have it."
        )
    slope = metrics.get("calibration_slope")
    if slope is not None:
        low, high = slope["interval"]
        fits = "agree with" if low <= 1 <= high else "are too extreme for" if high < 1 else "are too cautious for"
        lines.append(f"Spread of the estimates: they {fits} what was observed (slope {_shown(slope)}).")
    lines.append("Every interval is a 95 % interval from resampling patients; all of it holds for patients like these.")
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _figures(outcome: Floats, probability: Floats, rivals: Mapping[str, Floats]) -> str:
    drawn = (
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
    return "".join(
        f"<figure>{svg}<figcaption><b>{escape(name)}.</b> {escape(words)}</figcaption></figure>"
        for svg, name, words in drawn
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


def metric_table(metrics: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(describe_measure(name))}</td>{_cell(metric)}</tr>"
        for name, metric in metrics.items()
        if isinstance(metric, Mapping) and "interval" in metric
    )
    return html_table(("measure", ">value, 95 % interval"), rows)


def alert_table(metrics: Mapping[str, Any], outcome: Floats, probability: Floats) -> str:
    """At each alert rate: the threshold, how many alerts are right, how many outcomes are found."""
    lines = []
    for rate in (5, 10, 20):
        threshold = float(np.quantile(probability, 1 - rate / 100))
        right, found = (
            metrics.get(f"ppv_at_{rate}_alerts_per_100"),
            metrics.get(f"sensitivity_at_{rate}_alerts_per_100"),
        )
        if right is None or found is None:
            act = probability >= threshold
            cells = f"<td class=n>{100 * outcome[act].mean():.0f} %</td>"
            cells += f"<td class=n>{100 * outcome[act].sum() / outcome.sum():.0f} %</td><td></td>"
        else:
            cells = f"{_percent(right)}{_percent(found)}<td class=n>{1 / max(right['value'], 1e-9):.1f}</td>"
        lines.append(f"<tr><td class=n>{rate} per 100</td><td class=n>{100 * threshold:.1f} %</td>{cells}</tr>")
    head = (
        ">alerts",
        ">estimate from",
        ">of these, with the outcome",
        ">of all outcomes, found",
        ">alerts for one outcome",
    )
    return html_table(head, "".join(lines))


def comparator_table(metrics: Mapping[str, Any]) -> str:
    lines = []
    for name, group in metrics.get("comparators", {}).items():
        model = group.get("model_on_the_same_rows", {})
        cells = _cell(group.get("auroc"), group.get("reason")) + _cell(model.get("auroc"))
        cells += _cell(group.get("auprc")) + _cell(model.get("auprc"))
        lines.append(f"<tr><td>{escape(name)}</td><td class=n>{group.get('rows', '')}</td>{cells}</tr>")
    if not lines:
        return "<p class=dim>No established score could be computed on these rows.</p>"
    head = (
        "score",
        ">rows that have it",
        ">AUROC of the score",
        ">of the model there",
        ">AUPRC of the score",
        ">of the model there",
    )
    return html_table(head, "".join(lines))


def subgroup_table(subgroups: Mapping[str, Any]) -> str:
    lines = []
    for name, group in subgroups.items():
        reason = None if "auroc" in group else str(group.get("reason", "fewer than 100 rows: not reported"))
        first = f"<tr><td>{escape(name)}</td><td class=n>{group['rows']}</td>"
        if reason is not None:
            lines.append(f"{first}<td class=dim colspan=5>{escape(reason)}</td></tr>")
            continue
        cells = _percent(group.get("prevalence")) + _cell(group["auroc"]) + _cell(group.get("calibration_slope"))
        lines.append(f"{first}{cells}{_cell(group.get('observed_expected'))}{_percent(group.get('coverage'))}</tr>")
    if not lines:
        return "<p class=dim>Neither age nor sex is known here.</p>"
    head = (
        "group",
        ">rows",
        ">with the outcome",
        ">AUROC",
        ">calibration slope",
        ">observed : expected",
        ">sets that held",
    )
    return html_table(head, "".join(lines))


def coverage_table(conformal: Mapping[str, Any] | None) -> str:
    """How often the 90 % statements held, in words."""
    if conformal is None:
        return "<p class=dim>This model makes no conformal statement.</p>"
    words = {
        "coverage": "Prediction sets that held the truth",
        "coverage_with_outcome": "… of patients with the outcome",
        "coverage_without_outcome": "… of patients without it",
        "rate_interval_coverage": "Groups of patients whose rate lay in the 90 % interval",
    }
    lines = "".join(
        f"<tr><td>{escape(label)}</td>{_percent(conformal[name])}</tr>"
        for name, label in words.items()
        if name in conformal
    )
    said = "Both should hold for 90 of 100. Measured on patients who took no part in making them."
    return f"<table><caption>{said}</caption>{lines}</table>"


def _checklist(metrics: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    lines = "".join(
        f"<tr><td>{escape(item.number)}</td><td>{escape(item.asks)}</td><td>{escape(item.answer)}</td></tr>"
        for item in checklist(metrics, facts)
    )
    head = ("item", "asks for", "in this run")
    return html_table(head, lines)


def _cell(metric: Mapping[str, Any] | None, reason: str | None = None) -> str:
    if metric is None:
        return f"<td class='n dim'>{escape(reason or '–')}</td>"
    low, high = metric["interval"]
    return f"<td class=n>{metric['value']:.3f} <span class=i>{low:.3f} to {high:.3f}</span></td>"


def _percent(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "<td class='n dim'>–</td>"
    low, high = (100 * bound for bound in metric["interval"])
    return f"<td class=n>{100 * metric['value']:.1f} % <span class=i>{low:.1f} to {high:.1f}</span></td>"


def _shown(metric: Mapping[str, Any]) -> str:
    low, high = metric["interval"]
    return f"{metric['value']:.2f}, {low:.2f} to {high:.2f}"


def flat(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every metric of a document with its path, for tests and tables."""
    for name, value in metrics.items():
        if isinstance(value, Mapping) and "interval" in value:
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", metric) for inner, metric in flat(value))
