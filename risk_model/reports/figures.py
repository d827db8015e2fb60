"""The figures of a report, as SVG (`svg_drawing`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.reports.svg_drawing import ACCENT, DIM, INK, LINE, SECOND, svg_of

Floats = NDArray[np.float64]
POINTS = 300
_MOST_WITH_INTERVALS = 6


def roc(outcome: Floats, probability: Floats, rivals: Mapping[str, Floats]) -> str:
    """ROC of the model and of each comparator on the rows that have it."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=DIM, linewidth=0.9, linestyle=":")
        for style, (name, score) in zip(_styles(), rivals.items(), strict=False):
            known = np.isfinite(score)
            if not 0 < outcome[known].sum() < known.sum():
                continue  # a score that only one class has ranks nothing
            axes.plot(*_roc(outcome[known], score[known]), color=DIM, linewidth=1.1, linestyle=style, label=name)
        axes.plot(*_roc(outcome, probability), color=ACCENT, label="model")
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.legend(loc="lower right")

    return svg_of(
        "roc", "ROC curve", "Sensitivity against one minus specificity for the model and the comparators.", draw
    )


def precision_recall(outcome: Floats, probability: Floats) -> str:
    def draw(axes: Any) -> None:
        recall, precision = _precision_recall(outcome, probability)
        axes.axhline(float(outcome.mean()), color=DIM, linewidth=0.9, linestyle=":")
        axes.text(1, float(outcome.mean()) + 0.015, "by chance", color=DIM, ha="right", fontsize=9)
        axes.plot(recall, precision, color=ACCENT)
        axes.set(xlabel="sensitivity (recall)", ylabel="positive predictive value", xlim=(-0.01, 1.01), ylim=(0, 1.01))

    words = "Positive predictive value against sensitivity; the line is the share of patients with the outcome."
    return svg_of("pr", "Precision and recall", words, draw)


def calibration(outcome: Floats, probability: Floats, bins: int = 10) -> str:
    """Observed against predicted in tenths of the rows with 95 % intervals, a smooth curve, and where estimates lie."""

    def draw(axes: Any) -> None:
        parts = np.array_split(np.argsort(probability, kind="stable"), bins)
        mean = np.array([probability[part].mean() for part in parts])
        seen = np.array([outcome[part].mean() for part in parts])
        spans = np.array([_wilson(int(outcome[part].sum()), len(part)) for part in parts])
        reach = min(1.0, 1.1 * float(max(mean.max(), spans.max())))
        axes.plot([0, reach], [0, reach], color=DIM, linewidth=0.9, linestyle=":")
        axes.plot(*_smooth(outcome, probability, reach), color=ACCENT, linewidth=1.2, alpha=0.6, label="smoothed")
        axes.vlines(mean, spans[:, 0], spans[:, 1], color=ACCENT, linewidth=1)
        axes.plot(mean, seen, "o", color=ACCENT, markersize=5, label="tenths of patients, 95 %")
        edges = np.linspace(0, reach, 41)
        counts, _ = np.histogram(np.clip(probability, 0, reach), edges)
        axes.bar(edges[:-1], 0.08 * reach * counts / counts.max(), width=reach / 40, align="edge", color=DIM, alpha=0.4)
        axes.set(xlabel="predicted", ylabel="observed", xlim=(0, reach), ylim=(0, reach))
        axes.legend(loc="upper left")

    words = "Observed share with the outcome against the predicted one, in tenths of patients; bars show all estimates."
    return svg_of("calibration", "Calibration", words, draw)


def decision_curve(outcome: Floats, probability: Floats) -> str:
    """Net benefit of acting above a threshold, beside acting on all and on none."""

    def draw(axes: Any) -> None:
        thresholds = np.linspace(0.005, min(0.6, 4 * float(outcome.mean()) + 0.05), 100)
        rate = float(outcome.mean())
        everyone = rate - (1 - rate) * thresholds / (1 - thresholds)
        axes.axhline(0, color=DIM, linewidth=0.9, linestyle=":", label="alert on none")
        axes.plot(thresholds, everyone, color=DIM, linewidth=1.1, linestyle="--", label="alert on all")
        axes.plot(thresholds, net_benefit(outcome, probability, thresholds), color=ACCENT, label="model")
        axes.set(xlabel="threshold probability", ylabel="net benefit per patient", ylim=(-0.15 * rate, 1.1 * rate))
        axes.legend(loc="upper right")

    words = "Net benefit of alerting above each threshold, with the lines of alerting on all patients and on none."
    return svg_of("decision", "Decision curve", words, draw)


def distributions(outcome: Floats, probability: Floats) -> str:
    """Where the estimates of patients with and without the outcome lie."""

    def draw(axes: Any) -> None:
        reach = float(np.quantile(probability, 0.995))
        edges = np.linspace(0, reach, 36)
        for truth, colour, words in ((0, ACCENT, "without the outcome"), (1, SECOND, "with the outcome")):
            chosen = np.clip(probability[outcome == truth], 0, reach)
            share = 100 * np.histogram(chosen, edges)[0] / len(chosen)
            axes.stairs(share, edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(share, edges, color=colour, linestyle="--" if truth else "-", label=words)
        axes.set(xlabel="estimated probability", ylabel="% of these patients", xlim=(0, reach))
        axes.legend(loc="upper right")

    words = "Histograms of the estimates of patients with and without the outcome; the less they overlap, the better."
    return svg_of("distribution", "Estimates by outcome", words, draw)


def alerts(outcome: Floats, probability: Floats) -> str:
    """What a ward would see at each alert rate: of 100 patients, the alerts that are right, and the outcomes found."""

    def draw(axes: Any) -> None:
        order = np.argsort(-probability, kind="stable")
        hits = np.cumsum(outcome[order])
        chosen = np.unique(np.linspace(max(1, len(order) / 100), max(1, len(order) / 2), 120).astype(int)) - 1
        rate = 100 * (chosen + 1) / len(order)
        axes.plot(rate, 100 * hits[chosen] / (chosen + 1), color=ACCENT, label="alerts that are right")
        axes.plot(rate, 100 * hits[chosen] / hits[-1], color=SECOND, linestyle="--", label="outcomes that are found")
        axes.set(xlabel="alerts per 100 patients", ylabel="%", xlim=(0, 50), ylim=(0, 101))
        axes.legend(loc="upper left")

    words = (
        "Share of alerts that are right, and share of all outcomes that are found, by the number of alerts per hundred."
    )
    return svg_of("alerts", "Alerts", words, draw)


def calibration_before_after(outcome: Floats, before: Floats, after: Floats) -> str:
    def draw(axes: Any) -> None:
        reach = 0.0
        for probability, colour, words in ((before, DIM, "before"), (after, ACCENT, "after")):
            parts = np.array_split(np.argsort(probability, kind="stable"), 10)
            mean, seen = (np.array([v[part].mean() for part in parts]) for v in (probability, outcome))
            reach = min(1.0, 1.1 * max(reach, float(mean.max()), float(seen.max())))
            axes.plot(mean, seen, "o-", color=colour, markersize=4, linewidth=1, label=words)
        axes.plot([0, reach], [0, reach], color=DIM, linewidth=0.9, linestyle=":")
        axes.set(xlabel="predicted", ylabel="observed", xlim=(0, reach), ylim=(0, reach))
        axes.legend(loc="upper left")

    return svg_of(
        "recalibration", "Calibration before and after", "Observed against predicted, in tenths of patients.", draw
    )


def cards_by_day(days: Sequence[str], shown: Sequence[int], warnings: Sequence[int]) -> str:
    """Cards shown each day, warnings among them. `days` as of "2026-03-01", oldest first."""

    def draw(axes: Any) -> None:
        places = np.arange(len(days))
        axes.bar(places, shown, color=ACCENT, alpha=0.35, label="shown")
        axes.bar(places, warnings, color=SECOND, label="warnings")
        named = np.unique(np.linspace(0, len(days) - 1, min(5, len(days))).astype(int))
        axes.set_xticks(named, [days[place][5:] for place in named])
        axes.set(ylabel="cards", ylim=(0, None))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

    return svg_of("days", "Cards by day", "Cards shown each day, and the warnings among them.", draw)


def stability(name: str, labels: Sequence[str], psi: Sequence[float], watch: float, shifted: float) -> str:
    """Population stability indexes as bars, the largest on top, with the usual marks."""

    def draw(axes: Any) -> None:
        places = np.arange(len(labels))[::-1]
        axes.barh(places, psi, color=[SECOND if value > watch else ACCENT for value in psi], alpha=0.7)
        for mark in (watch, shifted):
            axes.axvline(mark, color=DIM, linewidth=1, linestyle="--")
        axes.set_yticks(places, ["\n".join(wrap(label, 28)) for label in labels], fontsize=8)
        axes.set(xlabel="population stability index", xlim=(0, max(1.1 * shifted, *psi)))

    return svg_of(name, "Stability of inputs", "Population stability index by input; dashed: the usual marks.", draw)


def net_benefit(outcome: Floats, probability: Floats, thresholds: Floats) -> Floats:
    acts = probability[None, :] >= thresholds[:, None]
    odds = thresholds / (1 - thresholds)
    return np.asarray((acts @ outcome - odds * (acts @ (1 - outcome))) / len(outcome))


def shots(name: str, task: str, lines: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """AUROC by number of examples: label of a line -> k -> measure with its interval. `name` begins the ids.

    Each line has a colour, a marker and a dash of its own and its label, with its marker, at its end, so that it can be
    followed without colours. Intervals stand side by side; among many lines they would hide the lines and are left out.
    """

    def draw(axes: Any) -> None:
        known = list(dict.fromkeys(k for line in lines.values() for k in line))
        looks = dict(zip(lines, _looks(len(lines)), strict=True))
        step = 0.5 / max(len(lines), 1)
        ends: dict[str, tuple[float, float]] = {}
        drawn: list[float] = [0.5]
        for place, (label, line) in enumerate(lines.items()):
            x = [known.index(k) + step * (place - (len(lines) - 1) / 2) for k in line]
            values = np.array([m["value"] for m in line.values()])
            drawn += values.tolist()
            if len(lines) <= _MOST_WITH_INTERVALS:
                spans = np.array([m["interval"] for m in line.values()]).reshape(-1, 2)
                axes.vlines(x, spans[:, 0], spans[:, 1], color=looks[label]["color"], linewidth=0.8, alpha=0.45)
                drawn += spans.ravel().tolist()
            axes.plot(x, values, **looks[label])
            if x:
                ends[label] = (x[-1], float(values[-1]))
        low, high = max(0.0, min(drawn) - 0.03), min(1.02, max(drawn) + 0.03)
        axes.axhline(0.5, color=LINE, linewidth=1)
        axes.set_xticks(range(len(known)), known)
        axes.set(xlabel="examples of each kind", ylabel="AUROC", ylim=(low, high), xlim=(-0.6, len(known) - 0.3))
        for label, height in _heights(ends, low, high).items():
            look = looks[label]
            edge = len(known) - 0.1
            axes.plot(
                [ends[label][0], edge], [ends[label][1], height], color=look["color"], linewidth=0.5, clip_on=False
            )
            axes.plot([edge], [height], color=look["color"], marker=look["marker"], markersize=5, clip_on=False)
            axes.text(edge + 0.02 * len(known), height, label, va="center", fontsize=8, color=look["color"])

    words = "AUROC on the test split against the number of training examples, one line for each representation."
    return svg_of(name, f"Few-shot: {task}", words, draw, size=(7.6, 4.2))


def _looks(count: int) -> Iterator[dict[str, Any]]:
    """Yields colour, marker and dash of each line; no two of up to 20 are the same."""
    colours, markers = (ACCENT, SECOND, INK, DIM), ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
    for place in range(count):
        yield {
            "color": colours[place % 4],
            "marker": markers[place % 10],
            "linestyle": ("-", "--", "-.", ":")[(place // 4 + place) % 4],
            "linewidth": 1.4,
            "markersize": 5,
        }


def _heights(ends: Mapping[str, tuple[float, float]], low: float, high: float) -> dict[str, float]:
    """Returns the heights of the labels: near the ends of their lines, in their order, and apart.

    >>> found = _heights({"a": (0, 0.70), "b": (0, 0.70), "c": (0, 0.9)}, 0.5, 1.0)
    >>> [round(found[label], 3) for label in "abc"]
    [0.685, 0.715, 0.9]
    """
    gap = min(0.06 * (high - low), (high - low) / max(len(ends), 1))
    groups: list[list[str]] = []

    def middle(group: list[str]) -> float:
        reach = gap * (len(group) - 1) / 2
        mean = float(np.mean([ends[label][1] for label in group]))
        return min(max(mean, low + reach), high - reach)

    for label in sorted(ends, key=lambda label: ends[label][1]):
        groups.append([label])
        while len(groups) > 1 and (
            middle(groups[-1]) - middle(groups[-2]) < gap * (len(groups[-1]) + len(groups[-2])) / 2
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    return {
        label: middle(group) + gap * (place - (len(group) - 1) / 2)
        for group in groups
        for place, label in enumerate(group)
    }


def differences(measured: Mapping[str, Mapping[str, Any]], reference: str) -> str:
    """Differences of AUROC from a reference, one line each with its interval: label -> {"value", "interval"}."""

    def draw(axes: Any) -> None:
        places = range(len(measured))
        values = [item["value"] for item in measured.values()]
        spans = [item["interval"] for item in measured.values()]
        axes.hlines(places, [low for low, _ in spans], [high for _, high in spans], color=DIM)
        axes.plot(values, places, "o", color=ACCENT)
        axes.axvline(0, color=LINE, linewidth=1)
        axes.set_yticks(places, list(measured))
        axes.invert_yaxis()
        axes.set(xlabel=f"AUROC, difference from {reference}")

    words = f"Difference of AUROC from {reference} with its 95 % interval, one line for each contender."
    return svg_of("differences", "Differences of AUROC", words, draw)


def _styles() -> tuple[str, ...]:
    return ("--", ":", "-.", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), "-")  # type: ignore[return-value]


def _roc(outcome: Floats, score: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    hits = np.cumsum(outcome[order])[last] / outcome.sum()
    misses = np.cumsum(1 - outcome[order])[last] / (1 - outcome).sum()
    chosen = _thin(len(last))
    return np.r_[0.0, misses[chosen]], np.r_[0.0, hits[chosen]]


def _precision_recall(outcome: Floats, score: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(outcome[order])
    # The first few rows jump between 0 and 1: begin where a hundredth of the outcomes, at least five, are found.
    start = int(np.searchsorted(hits, max(5.0, 0.01 * hits[-1])))
    chosen = start + _thin(len(order) - start)
    return hits[chosen] / hits[-1], hits[chosen] / (chosen + 1)


def _smooth(outcome: Floats, probability: Floats, reach: float) -> tuple[Floats, Floats]:
    """Running mean over a tenth of the rows: enough to see a bend between the points."""
    order = np.argsort(probability, kind="stable")
    width = max(20, len(order) // 10)
    if len(order) < 2 * width:
        return np.array([0.0]), np.array([0.0])
    sums = [np.cumsum(np.r_[0.0, values[order]]) for values in (probability, outcome)]
    x, y = ((total[width:] - total[:-width]) / width for total in sums)
    chosen = _thin(len(x))
    inside = x[chosen] <= reach
    return x[chosen][inside], y[chosen][inside]


def _thin(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(np.int64))


def _wilson(events: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    p = events / n
    centre, spread = p + z * z / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(0.0, (centre - spread) / (1 + z * z / n)), (centre + spread) / (1 + z * z / n)
