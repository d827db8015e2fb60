"""Writes the figures of `benchmarks/results/*.json` into README.md and docs/measured.md, between their markers.

`python -m benchmarks.readme` rewrites them; `python -m benchmarks.readme --check` fails when pages and results differ,
so that every figure between the markers was measured by a committed command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- figures:start -->", "<!-- figures:end -->"
FIRST, LAST = "<!-- numbers:start -->", "<!-- numbers:end -->"


def figure(metric: dict[str, Any]) -> str:
    """`0.861 (0.843–0.879)`: a value with its 95 % interval."""
    low, high = metric["interval"]
    return f"{metric['value']:.3f} ({low:.3f}–{high:.3f})"


def models() -> list[str]:
    rows = []
    for name, words in (("cinc2012", "In-hospital mortality, ICU"), ("diabetes130", "30-day readmission, diabetes")):
        path = RESULTS / name / "metrics.json"
        if not path.exists():
            continue
        metrics = json.loads(path.read_text("utf-8"))
        rivals = "; ".join(f"{rival} {figure(m['auroc'])}" for rival, m in metrics.get("comparators", {}).items())
        rows.append(
            f"| {words} | {figure(metrics['auroc'])} | {figure(metrics['auprc'])} | "
            f"{figure(metrics['calibration_slope'])} | {rivals or '–'} |"
        )
    if not rows:
        return []
    head = ["| model (out-of-fold) | AUROC (95 % interval) | AUPRC | calibration slope | AUROC of comparators |"]
    return ["## Models and latency", "", *head, "|---|---|---|---|---|", *rows, ""]


def retrieval() -> list[str]:
    path = RESULTS / "retrieval_settings.json"
    if not path.exists():
        return []
    result = json.loads(path.read_text("utf-8"))
    rows = [
        f"| {n} | {m['ndcg@10']:.3f} | {m['p@10']:.3f} | {m['recall@100']:.3f} |"
        for n, m in result["retrievers"].items()
    ]
    head = ["| retriever, Cystic Fibrosis collection | nDCG@10 | P@10 | recall@100 |", "|---|---|---|---|"]
    gain = result["graph_versus_hybrid"]["ndcg@10"]
    words = (
        f"The graph's settings were chosen inside folds over the {result['queries']} queries. Against the flat hybrid: "
        f"nDCG@10 {gain['difference']:+.3f} ({gain['interval'][0]:+.3f} to {gain['interval'][1]:+.3f}), "
        f"p {gain['p']:.4f} (`python -m benchmarks.retrieval_settings`)."
    )
    return [*head, *rows, "", words, ""]


def latency() -> list[str]:
    path = RESULTS / "hook_latency.json"
    if not path.exists():
        return []
    result = json.loads(path.read_text("utf-8"))
    return [
        f"A {result['body_megabytes']:.1f} MB hook request with notes already seen: median {result['p50_ms']:.0f} ms, "
        f"95th percentile {result['p95_ms']:.0f} ms; the serving process holds {result['rss_megabytes']:.0f} MB "
        "and imports no torch (`python -m benchmarks.hook_latency`, two cores).",
        "",
    ]


def numbers() -> list[str]:
    """Five figures for the README, each with its command."""
    icu, diabetes = (
        json.loads((RESULTS / name / "metrics.json").read_text("utf-8")) for name in ("cinc2012", "diabetes130")
    )
    drivers, hook, rules = (
        json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
        for name in ("driver_directions", "hook_latency", "note_rules")
    )
    real, peer = (rules["labelled_sentences"][name]["all"]["f1"] for name in ("rules", "medspacy"))
    return [
        f"- AUROC of hospital death in intensive care: {figure(icu['auroc'])}; SAPS-I on the same stays "
        f"{icu['comparators']['SAPS-I']['auroc']['value']:.3f} (`python -m benchmarks.cinc2012`)",
        f"- AUROC of readmission of diabetic inpatients: {figure(diabetes['auroc'])}; LACE "
        f"{diabetes['comparators']['LACE']['auroc']['value']:.3f} (`python -m benchmarks.diabetes130`)",
        f"- Abnormal values said to lower the risk, in {drivers['estimates']:,} estimates: "
        f"{drivers['lowers_though_abnormal']} (`python -m benchmarks.driver_directions`)",
        f"- Negation, time and person of findings in notes, F1 on sentences a physician labelled: {real:.3f}, medspacy "
        f"{peer:.3f} (`python -m benchmarks.note_rules`)",
        f"- A hook with a chart of {hook['body_megabytes']:.1f} MB: median {hook['p50_ms']:.0f} ms on two cores "
        "(`python -m benchmarks.hook_latency`)",
    ]


def render() -> str:
    """Returns the figures of docs/measured.md, with their markers."""
    return "\n".join([START, "", *models(), *retrieval(), *latency(), END])


def render_numbers() -> str:
    """Returns the figures of README.md, with their markers."""
    return "\n".join([FIRST, *numbers(), LAST])


def main() -> int:
    same = True
    for page, written, (start, end) in (
        (ROOT / "README.md", render_numbers(), (FIRST, LAST)),
        (ROOT / "docs" / "measured.md", render(), (START, END)),
    ):
        text = page.read_text("utf-8")
        before, rest = text.split(start)
        new = before + written + rest.split(end)[1]
        same = same and new == text
        if "--check" not in sys.argv:
            page.write_text(new, "utf-8")
    return 1 if "--check" in sys.argv and not same else 0


if __name__ == "__main__":
    sys.exit(main())
