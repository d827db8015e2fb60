"""An evaluation as one HTML page: figures as SVG, tables, no script, nothing from another host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIZE, PAD = 300, 42
STYLE = """
:root{color-scheme:light dark;--ink:#16233a;--dim:#5a6880;--line:#c9d2de;--accent:#2f5d9b;--back:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e8eef8;--dim:#9fb0c8;--line:#36445a;--accent:#7fa4e0;--back:#101824}}
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
body{color:var(--ink);background:var(--back)}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem}p.dim,td.dim{color:var(--dim)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:left;padding:.35rem .6rem;
border-bottom:1px solid var(--line);vertical-align:top}th{font-weight:600}td.n,th.n{text-align:right}
.figures{display:flex;flex-wrap:wrap;gap:1.5rem}figure{margin:0}figcaption{color:var(--dim);font-size:.85rem;max-width:20rem}
svg text{fill:var(--dim);font:12px system-ui,sans-serif}.axis{stroke:var(--line);fill:none}.curve{stroke:var(--accent);
fill:none;stroke-width:2}.ideal{stroke:var(--dim);stroke-dasharray:4 4;fill:none}.dot{fill:var(--accent)}
.note{border-left:4px solid #b7791f;padding:.4rem 1rem;background:color-mix(in srgb,#b7791f 9%,var(--back))}
"""


def page(title: str, body: str) -> str:
    """A whole page around already escaped `body`."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def evaluation(title: str, about: str, metrics: Mapping[str, Any], outcome: Floats, probability: Floats) -> str:
    """The report of one evaluation."""
    figures = [
        _figure("ROC curve", "1 − specificity", "sensitivity", roc_points(outcome, probability)),
        _figure("Calibration", "predicted", "observed", calibration_points(outcome, probability), dots=True),
        _figure("Decision curve", "threshold", "net benefit", net_benefit_points(outcome, probability), ideal=False),
    ]
    body = (
        f"<h1>{escape(title)}</h1><p class=dim>{escape(about)}</p>{metric_table(metrics)}"
        f"<h2>Figures</h2><div class=figures>{''.join(figures)}</div>"
        f"<h2>Alerts at fixed rates</h2>{alert_table(outcome, probability)}"
        f"<h2>Subgroups</h2>{subgroup_table(metrics.get('subgroups', {}))}"
    )
    return page(title, body)


def roc_points(outcome: Floats, probability: Floats) -> list[tuple[float, float]]:
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(outcome[order]) / outcome.sum()
    misses = np.cumsum(1 - outcome[order]) / (1 - outcome).sum()
    chosen = np.linspace(0, len(order) - 1, min(len(order), 200)).astype(int)
    return [(0.0, 0.0), *((float(misses[i]), float(hits[i])) for i in chosen)]


def calibration_points(outcome: Floats, probability: Floats, bins: int = 10) -> list[tuple[float, float]]:
    parts = np.array_split(np.argsort(probability, kind="stable"), bins)
    return [(float(probability[part].mean()), float(outcome[part].mean())) for part in parts]


def net_benefit_points(outcome: Floats, probability: Floats) -> list[tuple[float, float]]:
    """Net benefit of acting above each threshold (Vickers and Elkin 2006)."""
    points = []
    for threshold in np.linspace(0.01, 0.6, 60):
        act = probability >= threshold
        gain = outcome[act].sum() - (1 - outcome[act]).sum() * threshold / (1 - threshold)
        points.append((float(threshold), float(gain / len(outcome))))
    return points


def metric_table(metrics: Mapping[str, Any]) -> str:
    rows = [
        (name, metric["value"], metric["interval"])
        for name, metric in metrics.items()
        if isinstance(metric, dict) and "interval" in metric
    ]
    rows += [
        (f"{name}: {inner}", metric["value"], metric["interval"])
        for name, group in metrics.get("comparators", {}).items()
        for inner, metric in group.items()
    ]
    lines = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td class=n>{value:.3f}</td>"
        f"<td class=n>{low:.3f} to {high:.3f}</td></tr>"
        for name, value, (low, high) in rows
    )
    return f"<table><tr><th>measure</th><th class=n>value</th><th class=n>95 % interval</th></tr>{lines}</table>"


def alert_table(outcome: Floats, probability: Floats) -> str:
    """What a clinician would see: at each alert rate, the threshold, how many alerts are right, how many are found."""
    lines = []
    for rate in (0.05, 0.1, 0.2):
        threshold = float(np.quantile(probability, 1 - rate))
        act = probability >= threshold
        found = outcome[act].sum() / outcome.sum()
        lines.append(
            f"<tr><td class=n>{100 * rate:.0f} per 100</td><td class=n>{100 * threshold:.1f} %</td>"
            f"<td class=n>{100 * outcome[act].mean():.0f} %</td><td class=n>{100 * found:.0f} %</td></tr>"
        )
    head = "<th class=n>alerts</th><th class=n>threshold</th><th class=n>of these, with outcome</th>"
    return f"<table><tr>{head}<th class=n>of all outcomes, found</th></tr>{''.join(lines)}</table>"


def subgroup_table(subgroups: Mapping[str, Any]) -> str:
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td class=n>{group['rows']}</td><td class=n>{_shown(group.get('auroc'))}</td>"
        f"<td class=n>{_shown(group.get('observed_expected'))}</td></tr>"
        for name, group in subgroups.items()
    )
    head = "<th>group</th><th class=n>rows</th><th class=n>AUROC</th><th class=n>observed : expected</th>"
    return f"<table><tr>{head}</tr>{lines}</table>"


def _shown(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "fewer than 100 rows"
    low, high = metric["interval"]
    return f"{metric['value']:.3f} ({low:.3f} to {high:.3f})"


def _figure(
    title: str, x: str, y: str, points: Sequence[tuple[float, float]], *, dots: bool = False, ideal: bool = True
) -> str:
    """A small plot. Both axes run from 0 to 1, or to the largest value when `dots` or not `ideal`."""
    reach = max(max(a, b) for a, b in points) if dots else 1.0
    across = reach if dots else (max(a for a, _ in points) if not ideal else 1.0)
    up = reach if dots else (max(max(b for _, b in points), 0.01) * 1.1 if not ideal else 1.0)
    inner = SIZE - 2 * PAD

    def at(point: tuple[float, float]) -> str:
        return f"{PAD + inner * point[0] / across:.1f},{SIZE - PAD - inner * max(0.0, point[1]) / up:.1f}"

    curve = "" if dots else f'<polyline class="curve" points="{" ".join(at(p) for p in points)}"/>'
    marks = "".join(
        f'<circle class="dot" r="4" cx="{at(p).split(",")[0]}" cy="{at(p).split(",")[1]}"/>' for p in points if dots
    )
    line = f'<polyline class="ideal" points="{at((0, 0))} {at((across, up))}"/>' if ideal else ""
    return (
        f'<figure><svg width="{SIZE}" height="{SIZE}" role="img" aria-label="{escape(title)}">'
        f'<path class="axis" d="M{PAD} {PAD}V{SIZE - PAD}H{SIZE - PAD}"/>{line}{curve}{marks}'
        f'<text x="{SIZE / 2}" y="{SIZE - 10}" text-anchor="middle">{escape(x)} (0 to {across:.2g})</text>'
        f'<text x="14" y="{SIZE / 2}" text-anchor="middle" transform="rotate(-90 14 {SIZE / 2})">{escape(y)} '
        f"(0 to {up:.2g})</text></svg><figcaption>{escape(title)}</figcaption></figure>"
    )
