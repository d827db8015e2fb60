"""Our BM25 and our Aho-Corasick automaton beside bm25s and pyahocorasick, on the same words.

    python -m benchmarks.library_choices ARTICLES.jsonl.gz MTREES.bin.gz [--out benchmarks/results/library_choices.json]

The peers have to be installed (`pip install --no-deps bm25s pyahocorasick`); nothing of ours needs them. Both retrieve
with the same terms, k1, b and idf, so that the same articles come first and only time and memory differ. Both automata
hold the names of NLM's file of MeSH trees (`name;tree number`) and search the same titles and abstracts for them. Times
are processor time, the lowest of `--rounds`; memory is what stays allocated after building (tracemalloc and, for
compiled code, its own count). Decision 33 draws the conclusion.
"""

from __future__ import annotations

import argparse
import gzip
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import write
from knowledge_index.search.bm25 import K1, B, Bm25, terms
from knowledge_index.sources import collect_articles
from knowledge_index.vocabulary.automaton import Automaton

RESULT = Path(__file__).parent / "results" / "library_choices.json"
QUERIES, FIRST = 200, 10


def _lowest(run: Callable[[], object], rounds: int) -> float:
    """Processor seconds of the fastest round."""
    took = []
    for _ in range(rounds):
        begin = time.process_time()
        run()
        took.append(time.process_time() - begin)
    return min(took)


def _allocated(build: Callable[[], Any]) -> tuple[Any, float]:
    """What `build` returns, and the megabytes that stay allocated for it."""
    tracemalloc.start()
    try:
        made = build()
        return made, tracemalloc.get_traced_memory()[0] / 2**20
    finally:
        tracemalloc.stop()


def lexical(texts: Sequence[str], titles: Sequence[str], rounds: int) -> dict[str, Any]:
    """BM25 of all texts; the titles of `QUERIES` articles are the queries."""
    import bm25s

    tokens = [terms(text) for text in texts]
    queries = [terms(title) for title in titles]

    def theirs() -> Any:
        retriever = bm25s.BM25(method="lucene", k1=K1, b=B)
        retriever.index(tokens, show_progress=False)
        return retriever

    ours, our_memory = _allocated(lambda: Bm25.build(texts))
    peer, peer_memory = _allocated(theirs)

    def our_first(title: str) -> set[int]:
        scores = ours.scores(title)[0]
        return set(np.argpartition(-scores, FIRST)[:FIRST].tolist())

    def their_first(query: list[str]) -> set[int]:
        return set(peer.retrieve([query], k=FIRST, show_progress=False)[0][0].tolist())

    shared = [len(our_first(title) & their_first(query)) / FIRST for title, query in zip(titles, queries, strict=True)]
    return {
        "peer": f"bm25s {version('bm25s')}",
        "documents": len(texts),
        "queries": len(titles),
        "shared_of_the_first_10": float(np.mean(shared)),
        "build_seconds": {"ours": _lowest(lambda: Bm25.build(texts), rounds), "peer": _lowest(theirs, rounds)},
        "build_seconds_of_tokens": _lowest(lambda: [terms(text) for text in texts], rounds),
        "query_milliseconds": {
            "ours": 1000 * _lowest(lambda: [our_first(title) for title in titles], rounds) / len(titles),
            "peer": 1000 * _lowest(lambda: [their_first(query) for query in queries], rounds) / len(titles),
        },
        "megabytes": {"ours": our_memory, "peer": peer_memory},
    }


def automata(texts: Sequence[str], names_of_concepts: Iterable[str], rounds: int) -> dict[str, Any]:
    """Every name in every text."""
    import ahocorasick

    names = sorted({tuple(name.lower().split()) for name in names_of_concepts} - {()})
    split = [text.lower().split() for text in texts]
    numbers: dict[str, int] = {}
    for name in names:
        for word in name:
            numbers.setdefault(word, len(numbers) + 1)
    coded = [tuple(numbers.get(word, 0) for word in words) for words in split]

    def theirs() -> Any:
        made = ahocorasick.Automaton(ahocorasick.STORE_ANY, ahocorasick.KEY_SEQUENCE)
        for number, name in enumerate(names):
            made.add_word(tuple(numbers[word] for word in name), number)
        made.make_automaton()
        return made

    ours, our_memory = _allocated(lambda: Automaton(names))
    peer = theirs()
    found = sum(1 for words in split for _ in ours.matches(words))
    found_by_peer = sum(1 for words in coded for _ in peer.iter(words))
    return {
        "peer": f"pyahocorasick {version('pyahocorasick')}",
        "names": len(names),
        "texts": len(texts),
        "matches": {"ours": found, "peer": found_by_peer},
        "build_seconds": {"ours": _lowest(lambda: Automaton(names), rounds), "peer": _lowest(theirs, rounds)},
        "seconds": {
            "ours": _lowest(lambda: [list(ours.matches(words)) for words in split], rounds),
            "peer": _lowest(lambda: [list(peer.iter(words)) for words in coded], rounds),
        },
        "megabytes": {"ours": our_memory, "peer": peer.get_stats()["total_size"] / 2**20},
    }


def _names(trees: Path) -> list[str]:
    with gzip.open(trees, "rt", encoding="utf-8") as stream:
        return [line.partition(";")[0] for line in stream]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("articles", type=Path)
    parser.add_argument("trees", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    articles = list(collect_articles("jsonl", [given.articles]).articles.values())
    texts = [article.text for article in articles]
    step = max(1, len(articles) // QUERIES)
    result = {
        "bm25": lexical(texts, [article.title for article in articles[::step]][:QUERIES], given.rounds),
        "automaton": automata(texts, _names(given.trees), given.rounds),
    }
    write(given.out, result)


if __name__ == "__main__":
    main()
