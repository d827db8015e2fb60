"""How much each list counts, by question: `python -m benchmarks.fusion_rule --data DIR --out DIR`.

DIR is the folder `pubmed` of the shared data; the collections are those of `benchmarks.retrieval_collections`. The rule
has three numbers (`GraphSettings`), the same for every question and collection: `outlier` is four deviations; `lift`
and `walk_weight` are chosen on three collections, never on single questions: the setting of the grid whose
graph has the highest mean lead over the best of BM25, vectors and hybrid, each collection counting the same. `splits`
shows for each of the ten choices of three what the chosen setting does on the two that were left out. What ships lies
beside the choice on `CHOSEN_ON`; `collections` shows it on all five, with paired intervals.

The form of the rule and `outlier` were found while looking at Cystic Fibrosis, patients, known items and 200 questions
of the trials; the trials' questions here are others, and the reviews were never looked at before. `trials_alone`, the
same questions with the trials alone in the index, had no part in any choice.

What was measured of a collection is kept in DIR of `--out`, so that a run that was stopped goes on. `--reviews N` takes
the records of the reviews whose PMID is a multiple of N: all need half an hour of two cores for their vectors.

`time` is that of a ranking with the shipped rule over that with fixed weights, both on the same questions in one run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_store import content_key
from benchmarks.measuring import Remembering, write
from benchmarks.retrieval_collections import COLLECTIONS, Collection, reviews
from knowledge_index.retrieval.ranking import DEFAULTS, FIXED_WEIGHTS, GraphSettings, rank
from knowledge_index.retrieval.significance import interval, paired

RESULT = Path(__file__).parent / "results" / "fusion_rule.json"
FLAT = ("bm25", "dense", "hybrid")
CHOSEN_ON = ("cystic_fibrosis", "known_items", "trials")
NEVER_CHOSEN_ON = ("trials_alone",)
TIMED = 60

GRID = tuple(
    GraphSettings(lift=lift, walk_weight=weight) for lift, weight in product((0.25, 0.5, 1.0, 2.0), (1.0, 2.0, 3.0))
)
SHIPPED = GRID.index(DEFAULTS)
ABLATIONS: Mapping[str, GraphSettings] = {
    "fixed weights": FIXED_WEIGHTS,
    "no walk": replace(DEFAULTS, walk_weight=0.0),
}

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """The measure of every question: `flat` by retriever, `graph` of shape (settings, questions)."""

    flat: Mapping[str, Values]
    graph: Values
    articles: int
    time: float

    def save(self, path: Path) -> None:
        flat: dict[str, Any] = dict(self.flat)
        np.savez(path, graph=self.graph, articles=self.articles, time=self.time, **flat)

    @classmethod
    def load(cls, path: Path) -> Measured:
        with np.load(path, allow_pickle=False) as kept:
            flat = {name: kept[name] for name in FLAT}
            return cls(flat, kept["graph"], int(kept["articles"]), float(kept["time"]))

    @property
    def best_single(self) -> str:
        return max(("bm25", "dense"), key=lambda name: float(self.flat[name].mean()))

    def leads(self) -> Values:
        """The mean lead of each setting over the best of the flat retrievers, shape (settings,)."""
        lead: Values = self.graph.mean(axis=1) - max(float(values.mean()) for values in self.flat.values())
        return lead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder pubmed")
    parser.add_argument("--out", type=Path, required=True, help="where vectors and indexes are written")
    parser.add_argument("--collections", nargs="*", choices=COLLECTIONS, default=tuple(COLLECTIONS))
    parser.add_argument("--reviews", type=int, default=1, metavar="N", help="one in N records of the reviews")
    options = parser.parse_args()
    encoder = Remembering(options.out / "vectors")
    settings = (*GRID, *ABLATIONS.values())
    openers: dict[str, Callable[..., Collection]] = {**COLLECTIONS, "reviews": partial(reviews, one_in=options.reviews)}
    found: dict[str, Measured] = {}
    for name in options.collections:
        key = content_key(repr(settings), str(options.reviews) if name == "reviews" else "").hex()[:16]
        kept = options.out / f"fusion_rule-{name}-{key}.npz"
        if not kept.is_file():
            collection = openers[name](options.data, options.out / name, encoder)
            measured(collection, settings).save(kept)
        found[name] = Measured.load(kept)
        print(f"{name}: {len(found[name].flat['bm25'])} questions")
    write(RESULT, report(found))


def measured(collection: Collection, settings: Sequence[GraphSettings]) -> Measured:
    """Every retriever and setting on every question. A question's signals are made once."""
    flat: dict[str, list[float]] = {name: [] for name in FLAT}
    graph: list[list[float]] = []
    for name, query in collection.queries.items():
        index, text = collection.index, query.text
        signals = index._signals(text, "graph", max(100, collection.depth))
        for retriever in FLAT:
            flat[retriever].append(collection.value(name, rank(signals, retriever)[0]))
        concepts, walks, row = index._concept_seeds(query.concepts, text), dict[Any, Any](), []
        for setting in settings:
            key = (setting.outlier, setting.lift) if setting.lift else None
            if key not in walks:
                walk = index.graph.walk(signals.seeds(concepts, setting), setting.damping)[: len(index)]
                walks[key] = signals.with_walk(walk, np.zeros(0, np.int64))
            row.append(collection.value(name, rank(walks[key], "graph", setting)[0]))
        graph.append(row)
    every = {name: np.array(values) for name, values in flat.items()}
    return Measured(every, np.array(graph).T, len(collection.index), relative_time(collection))


def report(found: Mapping[str, Measured]) -> dict[str, Any]:
    five = [name for name in found if name not in NEVER_CHOSEN_ON]
    return {
        "settings_in_the_grid": len(GRID),
        "shipped": asdict(DEFAULTS),
        "chosen_on": list(CHOSEN_ON),
        "chosen": described(chosen(found, CHOSEN_ON)) if set(CHOSEN_ON) <= set(found) else None,
        "collections": {
            name: {
                "articles": item.articles,
                "questions": len(item.flat["bm25"]),
                **{retriever: float(values.mean()) for retriever, values in item.flat.items()},
                "graph": float(item.graph[SHIPPED].mean()),
                "graph_interval": list(interval(item.graph[SHIPPED])),
                **compared(item, SHIPPED),
                "shipped_versus_fixed_weights": paired(*item.graph[[SHIPPED, len(GRID)]].tolist()).to_json(),
                "ablations": {
                    label: float(item.graph[len(GRID) + at].mean()) for at, label in enumerate(ABLATIONS)
                },
                "grid": {"worst": float(item.graph[: len(GRID)].mean(axis=1).min()),
                         "best": float(item.graph[: len(GRID)].mean(axis=1).max())},
                "time": item.time,
            }
            for name, item in found.items()
        },
        "splits": [split(found, three, [n for n in five if n not in three]) for three in combinations(five, 3)],
    }  # fmt: skip


def chosen(found: Mapping[str, Measured], names: Sequence[str]) -> int:
    """The setting of the grid with the highest mean lead over these collections."""
    return int(np.mean([found[name].leads()[: len(GRID)] for name in names], axis=0).argmax())


def described(at: int) -> dict[str, float]:
    value = GRID[at]
    return {"lift": value.lift, "walk_weight": value.walk_weight}


def split(found: Mapping[str, Measured], three: Sequence[str], two: Sequence[str]) -> dict[str, Any]:
    at = chosen(found, three)
    return {
        "chosen_on": list(three),
        "chosen": described(at),
        "tested_on": {
            name: {"graph": float(found[name].graph[at].mean()), **compared(found[name], at)} for name in two
        },
    }


def compared(item: Measured, at: int) -> dict[str, Any]:
    """The graph with a setting against the hybrid and the best single retriever, paired by question."""
    single = item.best_single
    return {
        "best_single": single,
        "versus_hybrid": paired(item.graph[at].tolist(), item.flat["hybrid"].tolist()).to_json(),
        "versus_best_single": paired(item.graph[at].tolist(), item.flat[single].tolist()).to_json(),
    }


def relative_time(collection: Collection) -> float:
    """Median time of a ranking with the shipped rule over that with fixed weights, in turn on the same questions."""
    times: dict[GraphSettings, list[float]] = {DEFAULTS: [], FIXED_WEIGHTS: []}
    for query in list(collection.queries.values())[:TIMED]:
        collection.index.ranking(query, 10)
        for setting, taken in times.items():
            collection.index.settings = setting
            started = time.process_time()
            collection.index.ranking(query, 10)
            taken.append(time.process_time() - started)
    collection.index.settings = DEFAULTS
    return statistics.median(times[DEFAULTS]) / statistics.median(times[FIXED_WEIGHTS])


if __name__ == "__main__":
    main()
