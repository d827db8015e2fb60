"""The static encoder beside MiniLM: retrieval on the Cystic Fibrosis collection, and speed.

    python -m benchmarks.encoders --data DIR --out DIR

Each encoder makes an index of its own; `dense` is the encoder alone, `hybrid` and `graph` use it beside BM25. Speed is
of one thread on the collection's abstracts, cut as each encoder cuts them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.cystic_fibrosis import prepared
from benchmarks.measuring import rounded, write
from knowledge_index.encoders import CachedEncoder, encoder_named
from knowledge_index.retrieval import evaluate_retrieval
from knowledge_index.sources import collect_articles

RESULT = Path(__file__).parent / "results" / "encoders.json"
TIMED = 200


def measured(name: str, data: Path, out: Path) -> dict[str, Any]:
    index, queries, qrels = prepared(data, out / name, CachedEncoder(encoder_named(name, 2), out / "vectors"))
    scores = evaluate_retrieval(index, queries, qrels)
    return {
        "retrievers": {retriever: rounded(found.to_json()) for retriever, found in scores.items()},
        "intervals": {retriever: rounded(found.intervals()) for retriever, found in scores.items()},
        "abstracts_per_second": speed(name, out / name),
    }


def speed(name: str, folder: Path) -> int:
    texts = [article.text for article in collect_articles("jsonl", [folder / "articles.jsonl"]).articles.values()][
        :TIMED
    ]
    encoder = encoder_named(name)
    encoder.encode(texts[:2])
    started = time.perf_counter()
    encoder.encode(texts[2:])
    return round((len(texts) - 2) / (time.perf_counter() - started))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cf74.xml.gz ... and queries-*.xml.gz")
    parser.add_argument("--out", type=Path, required=True, help="where the indexes and vectors are written")
    options = parser.parse_args()
    write(RESULT, {name: measured(name, options.data, options.out) for name in ("minilm", "static")})


if __name__ == "__main__":
    main()
