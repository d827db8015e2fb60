"""Ranking and spread with communities of the graph: `python -m benchmarks.communities --data DIR --out DIR`.

Ranking, on the Cystic Fibrosis collection (DIR as for `benchmarks.cystic_fibrosis`): the first hundred of the graph
retriever as they are; with a share of their community's mean score added; and chosen greedily, each article's score
halved for every one of its community that was taken before (KARE's decay). For every level of the hierarchy, on all
queries, and for the added share out of fold as well: level and share are chosen on the other six folds.

Spread, on the demo charts and the starter base: the five articles shown for a patient when the answers to each problem
are taken in turn, and when they are chosen greedily by place and decay: how many communities they come from, how many
problems are heard, and the mean place of what is shown among its problem's answers.

Connection, on both graphs: how many communities fall apart when their edges to others are cut. Louvain may make such
communities, Leiden makes none (Traag, Waltman and van Eck, Scientific Reports 2019).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from benchmarks.cystic_fibrosis import prepared
from benchmarks.measuring import write
from benchmarks.patient_queries import CHARTS, problems, question
from benchmarks.retrieval_settings import out_of_fold
from knowledge_index import Evidence, KnowledgeIndex, spread
from knowledge_index.graph.communities import DECAY, levels_of
from knowledge_index.retrieval import RetrievalScores
from knowledge_index.retrieval.relevance import measured
from risk_model.pipeline.assess import PER_QUERY

RESULT = Path(__file__).parent / "results" / "communities.json"
SHARES = (0.1, 0.25, 0.5, 1.0)
SHOWN = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cf74.xml.gz ... and queries-*.xml.gz")
    parser.add_argument("--out", type=Path, required=True, help="where JSONL, qrels and the index are written")
    options = parser.parse_args()
    index, queries, qrels = prepared(options.data, options.out)
    place = {index.article(at).pmid: at for at in range(len(index))}
    levels = levels_of(index.graph.weights)
    asked = {name: index.ranking(query, 100) for name, query in queries.items() if any(qrels.get(name, {}).values())}

    def scored(order: Any) -> RetrievalScores:
        return RetrievalScores.of({
            name: measured([found[at][0] for at in order(found)], qrels[name]) for name, found in asked.items()
        })  # fmt: skip

    def labels(found: Any, level: int) -> NDArray[np.int32]:
        return levels[level][[place[pmid] for pmid, _ in found]]

    plain = scored(lambda found: range(len(found)))
    greedy = [scored(lambda found, at=at: decayed(found, labels(found, at))) for at in range(len(levels))]
    added = {
        (at, share): scored(lambda found, at=at, share=share: lifted(found, labels(found, at), share))
        for at in range(len(levels))
        for share in SHARES
    }
    chosen = out_of_fold([plain, *added.values()], 0)[0]
    write(
        RESULT,
        {
            "ranking": {
                "collection": "Cystic Fibrosis (MEDLINE 1974-79)",
                "communities": [len(np.unique(level)) for level in levels],
                "connection": connection(index),
                "as_it_is": plain.to_json(),
                "greedy_with_decay": [item.to_json() for item in greedy],
                "community_share_added_ndcg@10": {f"level {k[0]}, {k[1]}": v.ndcg_at_10 for k, v in added.items()},
                "community_share_out_of_fold": chosen.to_json(),
                "out_of_fold_versus_as_it_is": chosen.versus(plain)["ndcg@10"].to_json(),
            },
            "spread": patients(),
        },
    )


def connection(index: KnowledgeIndex) -> list[dict[str, int]]:
    """For each level: communities of at least two nodes, and how many of them are in several parts."""
    edges = index.graph.weights.tocoo()
    rows = []
    for labels in levels_of(index.graph.weights):
        inside = labels[edges.row] == labels[edges.col]
        kept = (edges.data[inside], (edges.row[inside], edges.col[inside]))
        _, part = connected_components(sparse.coo_array(kept, shape=edges.shape).tocsr(), directed=False)
        parts = np.bincount(np.unique(np.stack([labels, part]), axis=1)[0])
        rows.append({"communities": int((np.bincount(labels) > 1).sum()), "in_parts": int((parts > 1).sum())})
    return rows


def lifted(found: Sequence[tuple[str, float]], labels: NDArray[np.int32], share: float) -> list[int]:
    """Order by score with a share of the community's mean score added."""
    scores = np.array([score for _, score in found])
    _, at = np.unique(labels, return_inverse=True)
    mean = np.bincount(at, scores) / np.bincount(at)
    return np.argsort(-(scores + share * mean[at]), kind="stable").tolist()  # type: ignore[no-any-return]


def decayed(found: Sequence[tuple[str, float]], labels: NDArray[np.int32]) -> list[int]:
    """Greedy order: the score of an article is halved for each one of its community before it."""
    left, used, order = list(range(len(found))), dict.fromkeys(labels.tolist(), 0), []
    while left:
        best = max(left, key=lambda at: (found[at][1] * DECAY ** used[int(labels[at])], -at))
        left.remove(best)
        used[int(labels[best])] += 1
        order.append(best)
    return order


def patients() -> dict[str, Any]:
    index = KnowledgeIndex.open_starter()
    place = {index.article(at).pmid: at for at in range(len(index))}
    answers = []
    for path in sorted(CHARTS.glob("*.json.gz")):
        found = [index.retrieve(question(concept), PER_QUERY).evidence for concept in problems(index, path)]
        answers.append([list(answer) for answer in found if answer])
    rows: dict[str, Any] = {"patients": sum(bool(one) for one in answers), "connection": connection(index)}
    for level, labels in enumerate(levels_of(index.graph.weights)):
        number = {pmid: int(labels[at]) for pmid, at in place.items()}
        rows[f"level {level}"] = {
            "communities": len(np.unique(labels)),
            "in_turn": shown([spread(one, SHOWN, alone) for one in answers if one], answers, number),
            "greedy": shown(
                [spread(one, SHOWN, lambda item, of=number: of[item.pmid]) for one in answers if one], answers, number
            ),
        }
    return rows


def alone(_: Evidence) -> None:
    """No article belongs to a community: the answers are taken in turn."""


def shown(
    chosen: list[list[Evidence]], answers: list[list[list[Evidence]]], number: dict[str, int]
) -> dict[str, float]:
    """Means over the patients."""
    rows = []
    for items, asked in zip(chosen, [one for one in answers if one], strict=True):
        pmids = [item.pmid for item in items]
        places = [min(a.index(e) for a in [[x.pmid for x in answer] for answer in asked] for e in [p] if e in a)
                  for p in pmids]  # fmt: skip
        heard = sum(any(e.pmid in pmids for e in answer) for answer in asked)
        rows.append((len(pmids), len({number[p] for p in pmids}), heard / len(asked), sum(places) / len(places)))
    means = np.mean(rows, axis=0)
    return dict(zip(("articles", "communities", "problems_heard", "mean_place"), map(float, means), strict=True))


if __name__ == "__main__":
    main()
