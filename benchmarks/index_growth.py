"""Memory and time that each further article adds to building postings and graph of an index.

    python -m benchmarks.index_growth [--articles 100000 300000] [--out benchmarks/results/index_growth.json]

Articles are synthetic: 180 words whose frequencies follow Zipf's law, one in a thousand never written before (seven
million words at 38 million articles), a dozen headings of 30,000, eight citations of earlier articles. They wait in a
file, as `riskcards index build` keeps them; everything but the vectors is written, each number of articles in a fresh
process. Counted is private memory at its highest (`RssAnon`), not pages of files; the bytes of an article are the
difference between the two largest runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from knowledge_index import Article, MeshHeading
from knowledge_index.indexing.build import Ordered, write_text_and_graph
from knowledge_index.sources import SpooledArticles

RESULT = Path(__file__).parent / "results" / "index_growth.json"
WORDS, HEADINGS, CITATIONS, CONCEPTS, PART = 180, 12, 8, 30_000, 4096


def synthetic(count: int) -> Iterator[Article]:
    rng = np.random.default_rng(0)
    for start in range(0, count, PART):
        many = min(PART, count - start)
        # Names, codes, misspellings.
        words = np.minimum(rng.zipf(1.3, (many, WORDS)), 200_000)
        fresh = rng.random((many, WORDS)) < 0.001
        words[fresh] = 200_000 + np.arange(fresh.sum()) + start * WORDS
        headings = np.minimum(rng.zipf(1.2, (many, HEADINGS)), CONCEPTS)
        cited = (rng.random((many, CITATIONS)) * (start + 1)).astype(int)
        for at in range(many):
            yield Article(
                pmid=str(10_000_000 + start + at),
                title=f"Article {start + at}",
                abstract=" ".join(f"w{word:x}" for word in words[at]),
                mesh=tuple(
                    MeshHeading(f"Heading {one}", f"D9{one:06}", bool(one % 3 == 0)) for one in set(headings[at])
                ),
                references=tuple(str(10_000_000 + one) for one in set(cited[at])),
            )


def private() -> int:
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("RssAnon:") + 1]) * 1024


class Highest:
    """The most private memory of this process, looked at fifty times a second."""

    def __enter__(self) -> Highest:
        self.bytes, self._done = private(), threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, private())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()


def probe(count: int) -> dict[str, Any]:
    before = private()
    with tempfile.TemporaryDirectory(prefix="index-growth-") as folder, tempfile.TemporaryFile() as stream:
        articles = SpooledArticles(stream)
        for article in synthetic(count):
            articles[article.pmid] = article
        spooled = private()
        new = Path(folder) / "new"
        new.mkdir()
        started = time.process_time()
        with Highest() as highest:
            counts = write_text_and_graph(Ordered(articles), new)
        seconds = time.process_time() - started
        size = sum(path.stat().st_size for path in new.iterdir())
    return {
        "articles": count,
        "terms": counts["terms"],
        "edges": counts["edges"],
        "spool_mb": round((spooled - before) / 1e6),
        "highest_mb": round((highest.bytes - before) / 1e6),
        "index_bytes_per_article": round(size / count),
        "processor_ms_per_article": round(1000 * seconds / count, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=int, nargs="+", default=[50_000, 150_000])
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        print(json.dumps(probe(options.probe)))
        return
    runs = []
    for count in sorted(options.articles):
        command = [sys.executable, "-m", "benchmarks.index_growth", "--probe", str(count)]
        runs.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
        print(runs[-1], flush=True)
    result: dict[str, Any] = {"runs": runs}
    if len(runs) > 1:
        fewer, more = runs[-2], runs[-1]
        grown = (more["highest_mb"] - fewer["highest_mb"]) * 1e6 / (more["articles"] - fewer["articles"])
        result["memory_bytes_per_article"] = round(grown)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
