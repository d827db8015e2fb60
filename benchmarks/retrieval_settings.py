"""Settings of the graph retriever, chosen inside folds: `python -m benchmarks.retrieval_settings --data DIR --out DIR`.

DIR is that of `benchmarks.cystic_fibrosis`. The judged queries are split into seven folds; for each, the setting with
the best mean nDCG@10 on the other six is used on it, and every figure of the graph comes from queries that its setting
was not chosen on. The split is drawn ten times (seeds 0 to 9); the first is reported with its test, all ten with their
spread. BM25, vectors and flat hybrid have nothing to choose. `default` is what ships, the same for every collection.

`one_change_at_a_time` shows what each part of the shipped setting is worth, on all queries: a change that is not below
the default did not help.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cystic_fibrosis import prepared
from benchmarks.measuring import write
from knowledge_index import KnowledgeIndex
from knowledge_index.graph.knowledge_graph import EDGE_KINDS
from knowledge_index.retrieval import RetrievalScores, evaluate_retrieval
from knowledge_index.retrieval.ranking import DEFAULTS, GraphSettings

RESULT = Path(__file__).parent / "results" / "retrieval_settings.json"
FOLDS, DRAWS = 7, 10

GRID = tuple(
    GraphSettings(feedback=feedback, feedback_share=share, damping=damping, depth=depth)
    for feedback, share, damping, depth in product((3, 5, 10), (0.5, 0.75, 1.0), (0.5, 0.7, 0.85), (100, 1000))
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cf74.xml.gz ... and queries-*.xml.gz")
    parser.add_argument("--out", type=Path, required=True, help="where JSONL, qrels and the index are written")
    options = parser.parse_args()
    index, queries, qrels = prepared(options.data, options.out)
    flat = evaluate_retrieval(index, queries, qrels, ("bm25", "dense", "hybrid"))

    def measured(settings: GraphSettings) -> RetrievalScores:
        index.settings = settings
        return evaluate_retrieval(index, queries, qrels, ("graph",))["graph"]

    runs = [measured(settings) for settings in GRID]
    draws = [out_of_fold(runs, seed) for seed in range(DRAWS)]
    graph, chosen = draws[0]
    ours = measured(DEFAULTS)
    scores = {**flat, "graph": graph}
    write(
        RESULT,
        {
            "collection": "Cystic Fibrosis (MEDLINE 1974-79)",
            "queries": len(graph.by_query),
            "settings_in_the_grid": len(GRID),
            "folds": FOLDS,
            "retrievers": {name: item.to_json() for name, item in scores.items()},
            "intervals": {name: item.intervals() for name, item in scores.items()},
            "graph_versus_hybrid": {k: pair.to_json() for k, pair in graph.versus(flat["hybrid"]).items()},
            "out_of_fold_ndcg@10_of_ten_draws": sorted(draw.ndcg_at_10 for draw, _ in draws),
            "worst_p_of_ten_draws": max(draw.versus(flat["hybrid"])["ndcg@10"].p for draw, _ in draws),
            "chosen_in_each_fold": [asdict(GRID[at]) for at in chosen],
            "grid_ndcg@10": {"worst": min(r.ndcg_at_10 for r in runs), "best": max(r.ndcg_at_10 for r in runs)},
            "default": {"settings": asdict(DEFAULTS), **ours.to_json()},
            "one_change_at_a_time": {**other_settings(measured), **without_edges(index, measured)},
        },
    )


def out_of_fold(runs: Sequence[RetrievalScores], seed: int) -> tuple[RetrievalScores, list[int]]:
    """Each query under the setting that was best on the other folds, and the choice of each fold."""
    names = list(runs[0].by_query)
    gains = np.array([run.column("ndcg@10") for run in runs])
    fold = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    chosen = [int(gains[:, fold != number].mean(axis=1).argmax()) for number in range(FOLDS)]
    by_query = {name: runs[chosen[fold[at]]].by_query[name] for at, name in enumerate(names)}
    return RetrievalScores.of(by_query), chosen


def other_settings(measured: Any) -> dict[str, dict[str, float]]:
    changes: dict[str, GraphSettings] = {
        "walk counts as much as a list": replace(DEFAULTS, walk_weight=1.0),
        "walk counts three times as much": replace(DEFAULTS, walk_weight=3.0),
        "nothing that stands out is lifted": replace(DEFAULTS, lift=0.0),
        "no feedback: concepts alone are seeds": replace(DEFAULTS, feedback=0, feedback_share=0.0),
        "feedback alone, no concepts": replace(DEFAULTS, feedback_share=1.0),
        "twenty articles of feedback": replace(DEFAULTS, feedback=20),
        "lists read to 100 only": replace(DEFAULTS, depth=100),
        "damping .85": replace(DEFAULTS, damping=0.85),
    }
    return {name: measured(settings).to_json() for name, settings in changes.items()}


def without_edges(index: KnowledgeIndex, measured: Any) -> dict[str, dict[str, float]]:
    whole = index.graph
    out = {}
    for kind in EDGE_KINDS:
        index.graph = whole.without(kind)
        out[f"without edges: {kind}"] = measured(DEFAULTS).to_json()
    index.graph = whole
    return out


if __name__ == "__main__":
    main()
