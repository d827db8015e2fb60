"""Time, memory, disk and recall of the compressed vector store by number of vectors.

    python -m benchmarks.vector_scale --n 2000000 [--peers] [--out benchmarks/results/vector_scale.json]

Vectors are synthetic: 384 dimensions, clusters around 2,000 centres with a power-law spectrum, normalised; questions
are further draws. The store is built by `knowledge_index.search` as an index is, in this process; it is opened
and asked in a fresh one, one question at a time on one thread. Recall@10 is against exact search over all vectors. Each
run adds its row to the results, so that the figures of docs/scale.md can be repeated one by one. `--peers` adds flat
search and HNSW (FAISS, M=32, ef 128) on the same vectors.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from knowledge_index.core.arrays import save_array
from knowledge_index.search import vector_files as writing
from knowledge_index.search import vector_stores as stores

RESULT = Path(__file__).parent / "results" / "vector_scale.json"
DIMENSIONS, CENTRES, QUESTIONS, PART = 384, 2_000, 300, 16_384


class Synthetic:
    """`count` vectors in parts, the same at each iteration; never all in memory."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.count, self.seed = count, seed
        rng = np.random.default_rng(0)
        self._spread = (np.arange(1, DIMENSIONS + 1) ** -0.5).astype(np.float32)
        self._centres = rng.standard_normal((CENTRES, DIMENSIONS), dtype=np.float32) * self._spread
        self._turn = np.linalg.qr(rng.standard_normal((DIMENSIONS, DIMENSIONS)))[0].astype(np.float32)

    def __iter__(self) -> Iterator[stores.Vectors]:
        for number, start in enumerate(range(0, self.count, PART)):
            rng = np.random.default_rng((self.seed, number))
            many = min(PART, self.count - start)
            drawn = rng.standard_normal((many, DIMENSIONS), dtype=np.float32) * self._spread * np.float32(0.8)
            drawn += self._centres[rng.integers(0, CENTRES, many)]
            turned = drawn @ self._turn
            yield turned / np.linalg.norm(turned, axis=1, keepdims=True)


def timed(step: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    value = step()
    return value, time.perf_counter() - started


def truth(vectors: Synthetic, questions: stores.Vectors) -> np.ndarray[Any, Any]:
    """The exact nearest ten of each question, shape (questions, 10)."""
    best = np.full((len(questions), 10), -np.inf, np.float32)
    rows = np.full((len(questions), 10), -1, np.int64)
    first = 0
    for part in vectors:
        scores = np.hstack([best, questions @ part.T])
        numbers = np.hstack([rows, np.broadcast_to(first + np.arange(len(part)), (len(questions), len(part)))])
        top = np.argpartition(-scores, 10, axis=1)[:, :10]
        best, rows = np.take_along_axis(scores, top, 1), np.take_along_axis(numbers, top, 1)
        first += len(part)
    return rows


def build(vectors: Synthetic, folder: Path) -> dict[str, Any]:
    lists = writing.lists_for(vectors.count)
    sample, sampling = timed(lambda: writing.sample_of(vectors, vectors.count, lists))
    trained, training = timed(lambda: writing.train_lists(sample, lists))
    codec = stores.ByteCodes.trained(sample)
    _, adding = timed(lambda: writing.write_compressed(folder, trained, codec, vectors, vectors.count))
    save_array(folder, "vectors_scale", np.stack([codec.low, codec.step]))
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "lists": lists,
        "sample_s": round(sampling, 1),
        "train_s": round(training, 1),
        "add_s": round(adding, 1),
        "bytes_per_vector": round(size / vectors.count, 1),
        "bytes_per_vector_in_memory": round((folder / "vectors.faiss").stat().st_size / vectors.count, 1),
        "build_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def recall(found: np.ndarray[Any, Any], exact: np.ndarray[Any, Any]) -> float:
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]))


def ask(search: Callable[[stores.Vectors], Any], questions: stores.Vectors) -> tuple[float, np.ndarray[Any, Any]]:
    """Median milliseconds of one question, and the rows found; each asked twice, the second time counted."""
    times, rows = [], []
    for question in questions:
        search(question[None])
        found, seconds = timed(lambda question=question: search(question[None]))  # type: ignore[misc]
        times.append(seconds * 1000)
        rows.append(found[1][0])
    return round(statistics.median(times), 3), np.array(rows)


def probe(folder: Path) -> None:
    """In a fresh process: open the store, query it, report what that took."""
    import faiss

    faiss.omp_set_num_threads(1)
    before = resident()
    opened, seconds = timed(lambda: stores.CompressedVectors.open(folder))
    questions, exact = np.load(folder / "questions.npy"), np.load(folder / "truth.npy")
    rows: dict[str, Any] = {"open_s": round(seconds, 3), "open_resident_mb": resident() - before}
    for probes in (32, 64, 128, 256):
        opened.set_probes(probes)
        milliseconds, found = ask(lambda question: opened.search(question, 10), questions)
        rows[f"probes_{probes}"] = {"ms": milliseconds, "recall@10": round(recall(found, exact), 4)}
    rows["asked_resident_mb"] = resident() - before
    print(json.dumps(rows))


def resident() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def peers(vectors: Synthetic, questions: stores.Vectors, exact: np.ndarray[Any, Any]) -> dict[str, Any]:
    import faiss

    everything = np.concatenate(list(vectors))
    rows: dict[str, Any] = {}
    flat = faiss.IndexFlatIP(DIMENSIONS)
    graph = faiss.IndexHNSWFlat(DIMENSIONS, 32, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 80
    graph.hnsw.efSearch = 128
    for name, index in {"flat": flat, "HNSW32 ef128": graph}.items():
        faiss.omp_set_num_threads(2)
        _, adding = timed(lambda index=index: index.add(everything))  # type: ignore[misc]
        faiss.omp_set_num_threads(1)
        milliseconds, found = ask(lambda question, index=index: index.search(question, 10), questions)  # type: ignore[misc]
        rows[name] = {
            "add_s": round(adding, 1),
            "ms": milliseconds,
            "recall@10": round(recall(found, exact), 4),
            "bytes_per_vector": DIMENSIONS * 4 + (0 if name == "flat" else 32 * 2 * 4 + 16),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        probe(options.probe)
        return
    import faiss

    faiss.omp_set_num_threads(2)
    vectors = Synthetic(options.n)
    questions = next(iter(Synthetic(QUESTIONS, seed=2)))
    folder = Path(tempfile.mkdtemp(prefix="vector-scale-"))
    try:
        row: dict[str, Any] = {"dimensions": DIMENSIONS, **build(vectors, folder)}
        print(row, flush=True)
        exact = truth(vectors, questions)
        np.save(folder / "questions.npy", questions)
        np.save(folder / "truth.npy", exact)
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.vector_scale", "--probe", str(folder)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        row |= json.loads(answer.stdout)
        if options.peers:
            row["peers"] = peers(vectors, questions, exact)
    finally:
        shutil.rmtree(folder)
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results | {str(options.n): row}, indent=1) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
