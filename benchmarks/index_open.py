"""Time to open a large index, and its memory.

    python -m benchmarks.index_open --articles 1000000 [--out benchmarks/results/index_open.json]

The folder has synthetic content and a realistic shape: records of 1.2 kB, each with 90 words of a vocabulary of
700,000, 15 edges, and compressed vectors, written by the functions that write any index. It is opened twice in fresh
processes: the first time every file is hashed. Each run adds its row to the results, by number of articles.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.vector_scale import DIMENSIONS, Synthetic, resident
from knowledge_index import Article, KnowledgeIndex, Manifest, MeshHeading
from knowledge_index.core import storage
from knowledge_index.core.arrays import save_array
from knowledge_index.search import vector_files as files

RESULT = Path(__file__).parent / "results" / "index_open.json"
TERMS, WORDS, CONCEPTS, EDGES = 700_000, 90, 30_000, 15
TEXT = "Patients admitted with the condition were followed for thirty days after discharge from hospital. " * 11


def articles(count: int) -> Iterator[Article]:
    headings = tuple(MeshHeading(f"Heading number {n}", f"D{n:06}") for n in range(8))
    return (Article(str(n), f"An article with the number {n}", TEXT, headings, 2000) for n in range(1, count + 1))


def write(count: int, folder: Path) -> None:
    rng = np.random.default_rng(0)
    new = folder.with_name("new")
    new.mkdir(parents=True)
    storage.save_articles(new, articles(count))
    save_array(new, "retracted", np.zeros(count, np.bool_))
    (new / "terms.json").write_bytes(orjson.dumps([f"term{n:x}" for n in range(TERMS)]))
    save_array(new, "bm25_idf", rng.random(TERMS, np.float32))
    matrix(new, ("bm25_weights", "bm25_documents", "bm25_starts"), TERMS, count, count * WORDS)
    concepts = [[f"D{n:06}", f"Heading number {n}", [f"C{n % 26:02}.{n:05}"]] for n in range(CONCEPTS)]
    (new / "concepts.json").write_bytes(orjson.dumps(concepts))
    nodes, edges = count + CONCEPTS, 2 * count * EDGES
    matrix(new, ("graph_weights", "graph_nodes", "graph_starts"), nodes, nodes, edges)
    save_array(new, "graph_relations", np.zeros(edges, np.uint8))
    files.write_vectors(new, Synthetic(count), count, lists=256)
    counts = {"articles": count, "concepts": CONCEPTS, "edges": edges, "terms": TERMS, "retracted": 0}
    storage.publish(new, folder, Manifest("synthetic", "none", "none", DIMENSIONS, counts, "benchmarks.index_open"))


def matrix(folder: Path, names: tuple[str, str, str], rows: int, columns: int, cells: int) -> None:
    rng = np.random.default_rng(1)
    save_array(folder, names[0], rng.random(cells, np.float32))
    save_array(folder, names[1], rng.integers(0, columns, cells, np.int32))
    save_array(folder, names[2], np.linspace(0, cells, rows + 1).astype(np.int64))


def probe(folder: Path) -> None:
    before, started = resident(), time.perf_counter()
    index = KnowledgeIndex.open(folder)
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text().split()
    private = int(status[status.index("RssAnon:") + 1]) // 1024
    print(
        json.dumps(
            {
                "articles": len(index),
                "open_s": round(seconds, 2),
                "processor_s": round(time.process_time(), 2),
                "resident_mb": resident() - before,
                "of_it_private_mb": private,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        probe(options.probe)
        return
    folder = Path(tempfile.mkdtemp(prefix="index-open-"))
    try:
        write(options.articles, folder / "index")
        size = storage.read_manifest(folder / "index").size
        command = [sys.executable, "-m", "benchmarks.index_open", "--probe", str(folder / "index")]
        runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(2)]
    finally:
        shutil.rmtree(folder)
    result: dict[str, Any] = {"megabytes": round(size / 1e6), "first": runs[0], "again": runs[1]}
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results | {str(options.articles): result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
