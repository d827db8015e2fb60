"""Speed of the graph step at 230,000 nodes and 2.4 million edges, and its overlap with exact PageRank.

    python -m benchmarks.graph_step [--articles FILE.jsonl.gz] [--peers] [--out benchmarks/results/graph_step.json]

The graph is synthetic, in the shape of MeSH indexing: articles with a dozen headings whose popularity follows a power
law, a concept tree, citations of preferred articles, weights as `edges_of` gives them. The exact reference is power
iteration by scipy until nothing changes. Overlap is the share of the step's first 50 articles that belong to the exact
first 50 (ties at the border belong). `--articles` measures the same on the graph that `edges_of` makes of a file of
articles; `--peers` adds networkx and igraph, where they are installed. Processor time is given beside elapsed time,
which includes other programs. No test asserts a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from knowledge_index.graph.edges import edges_of
from knowledge_index.graph.files import build_graph
from knowledge_index.graph.knowledge_graph import DAMPING, KnowledgeGraph
from knowledge_index.graph.pagerank import TOLERANCE, local_push
from knowledge_index.indexing.build import concepts_of
from knowledge_index.sources import collect_articles

RESULT = Path(__file__).parent / "results" / "graph_step.json"
ARTICLES, CONCEPTS, HEADINGS, CITATIONS = 200_000, 30_000, 10, 425_000
FIRST = 50

Seeds = dict[int, float]
Walk = Callable[[Seeds], NDArray[np.float64]]


def synthetic(seed: int = 7) -> KnowledgeGraph:
    """Articles, then concepts; about 2.4 million edges, each stored in both directions."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, CONCEPTS + 1) ** 0.9
    per_article = rng.poisson(HEADINGS - 1, ARTICLES) + 1
    source = np.repeat(np.arange(ARTICLES), per_article)
    heading = ARTICLES + rng.choice(CONCEPTS, len(source), p=popularity / popularity.sum())
    citing = rng.integers(0, ARTICLES, CITATIONS)
    cited = (ARTICLES * rng.random(CITATIONS) ** 3).astype(np.int64)
    child = ARTICLES + np.arange(1, CONCEPTS)
    parent = ARTICLES + (rng.random(CONCEPTS - 1) * np.arange(1, CONCEPTS)).astype(np.int64)
    one, other = np.concatenate([source, citing, child]), np.concatenate([heading, cited, parent])
    nodes = ARTICLES + CONCEPTS
    pair = np.unique(np.minimum(one, other)[one != other] * nodes + np.maximum(one, other)[one != other])
    one, other = pair // nodes, pair % nodes
    holding = np.bincount(other, minlength=nodes)
    weight = (np.log1p(ARTICLES / holding[other]) * rng.choice([1.0, 2.0], len(pair))).astype(np.float32)
    both = (np.concatenate([one, other]), np.concatenate([other, one]))
    matrix = sparse.csr_array((np.concatenate([weight, weight]), both), shape=(nodes, nodes))
    matrix.sort_indices()
    return KnowledgeGraph(ARTICLES, matrix, np.zeros(matrix.nnz, np.uint8))


def from_articles(path: Path) -> KnowledgeGraph:
    """The graph `riskcards index build` would make, without its vectors."""
    articles = list(collect_articles("jsonl", [path]).articles.values())
    concepts = concepts_of(articles, {})
    return build_graph(edges_of(articles, concepts, {}), len(articles), len(articles) + len(concepts))


def questions(graph: KnowledgeGraph, count: int, seed: int = 11) -> list[Seeds]:
    """Seeds as retrieval gives them: one to four concepts of middling popularity, and five articles."""
    rng = np.random.default_rng(seed)
    degree = np.diff(graph.weights.indptr)
    concepts = np.flatnonzero(degree[graph.articles :] >= 3) + graph.articles
    drawn = []
    for _ in range(count):
        chosen = rng.choice(concepts, rng.integers(1, 5), replace=False)
        near = rng.choice(np.flatnonzero(degree[: graph.articles]), 5, replace=False)
        drawn.append({int(n): 0.5 / len(chosen) for n in chosen} | {int(n): 0.1 for n in near})
    return drawn


def power_iteration(weights: sparse.csr_array, seeds: Seeds, least_change: float) -> NDArray[np.float64]:
    """PageRank of every node by power iteration until the change is below `least_change`."""
    start = np.zeros(weights.shape[0])
    start[list(seeds)] = list(seeds.values())
    start /= start.sum()
    degree = np.asarray(weights.sum(axis=1)).ravel()
    inverse = np.divide(1.0, degree, out=np.zeros(len(degree)), where=degree > 0)
    rank, change = start, 1.0
    while change > least_change:
        moved = weights @ (rank * inverse)
        after = DAMPING * moved + (1.0 - DAMPING * moved.sum()) * start
        change = float(np.abs(after - rank).sum())
        rank = after
    return rank


def overlap(found: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    """Share of the found first 50 that are among the exact first 50."""
    border = np.partition(exact, -FIRST)[-FIRST]
    return float((exact[np.argpartition(found, -FIRST)[-FIRST:]] >= border * (1 - 1e-9)).mean())


def measure(
    name: str, walk: Walk, graph: KnowledgeGraph, asked: list[Seeds], exact: list[NDArray[np.float64]]
) -> dict[str, Any]:
    times, busy, shares = [], [], []
    for seeds, truth in zip(asked, exact, strict=True):
        started, worked = time.perf_counter(), time.process_time()
        found = walk(seeds)
        times.append((time.perf_counter() - started) * 1000)
        busy.append((time.process_time() - worked) * 1000)
        shares.append(overlap(found[: graph.articles], truth[: graph.articles]))
    row = {
        "median_ms": round(statistics.median(times), 2),
        "median_processor_ms": round(statistics.median(busy), 2),
        "p95_ms": round(sorted(times)[int(0.95 * (len(times) - 1))], 2),
        "top50_overlap": round(statistics.mean(shares), 3),
        "least_overlap": round(min(shares), 2),
        "questions": len(times),
    }
    print(f"  {name:32}{row['median_ms']:>10.2f} ms  p95 {row['p95_ms']:>10.2f}  overlap {row['top50_overlap']:.3f}")
    return row


def peers(graph: KnowledgeGraph) -> dict[str, Walk]:
    """Other libraries on the same graph, where they are installed."""
    found: dict[str, Walk] = {}
    coo = graph.weights.tocoo()
    upper = coo.row < coo.col
    edges = np.column_stack([coo.row[upper], coo.col[upper]])
    try:
        import igraph  # type: ignore[import-not-found,unused-ignore]

        drawn = igraph.Graph(n=graph.weights.shape[0], edges=edges)
        weight = coo.data[upper].tolist()

        def by_igraph(seeds: Seeds) -> NDArray[np.float64]:
            reset = np.zeros(graph.weights.shape[0])
            reset[list(seeds)] = list(seeds.values())
            return np.array(drawn.personalized_pagerank(damping=DAMPING, reset=reset, weights=weight))

        found["igraph"] = by_igraph
    except ImportError:
        print("  igraph is not installed: not measured")
    try:
        import networkx  # type: ignore[import-not-found,unused-ignore]

        net = networkx.Graph()
        net.add_nodes_from(range(graph.weights.shape[0]))
        net.add_weighted_edges_from(zip(*edges.T.tolist(), coo.data[upper].tolist(), strict=True))

        def by_networkx(seeds: Seeds) -> NDArray[np.float64]:
            rank = networkx.pagerank(net, alpha=DAMPING, personalization=seeds, tol=1e-10, max_iter=200)
            return np.array([rank[node] for node in range(len(rank))])

        found["networkx"] = by_networkx
    except ImportError:
        print("  networkx is not installed: not measured")
    return found


def run(graph: KnowledgeGraph, count: int, with_peers: bool) -> dict[str, Any]:
    asked = questions(graph, count)
    exact = [power_iteration(graph.weights, seeds, 1e-12) for seeds in asked]
    rows = {}
    for tolerance in (1e-5, TOLERANCE, 1e-6, 1e-7):
        name = f"local push {tolerance:g}" + (" (ours)" if tolerance == TOLERANCE else "")

        def push(seeds: Seeds, tolerance: float = tolerance) -> NDArray[np.float64]:
            return local_push(graph.weights, seeds, DAMPING, tolerance)

        rows[name] = measure(name, push, graph, asked, exact)
    rows["scipy power iteration 1e-7"] = measure(
        "scipy power iteration 1e-7", lambda seeds: power_iteration(graph.weights, seeds, 1e-7), graph, asked, exact
    )
    for name, walk in (peers(graph) if with_peers else {}).items():
        rows[name] = measure(name, walk, graph, asked[:5], exact[:5])
    return {"nodes": graph.weights.shape[0], "edges": int(graph.weights.nnz // 2), "damping": DAMPING, "walks": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=Path, help="JSON lines; the real graph is measured too")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--peers", action="store_true", help="also networkx and igraph")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    graphs: dict[str, Callable[[], KnowledgeGraph]] = {"synthetic": synthetic}
    if options.articles:
        graphs[options.articles.name] = lambda: from_articles(options.articles)
    result: dict[str, Any] = {}
    for name, make in graphs.items():
        graph = make()
        print(f"{name}: {graph.weights.shape[0]:,} nodes, {graph.weights.nnz // 2:,} edges")
        result[name] = run(graph, options.questions, options.peers)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
