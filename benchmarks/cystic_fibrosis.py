"""Retrieval on the Cystic Fibrosis collection: `python -m benchmarks.cystic_fibrosis --data DIR --out DIR`.

1,239 MEDLINE records of 1974-79 with MeSH-style headings and citations; questions with relevance judged by four
raters, 0 to 2 each. The gain of a record is the sum of the four (0 to 8). DIR holds `cf74.xml.gz` .. `cf79.xml.gz` and
`queries-*.xml.gz` (Shaw, Wood, Wood and Tibbo, "The Cystic Fibrosis Database", Library and Information Science
Research 13, 1991). Records, queries and judgements are first written as the files `riskcards index` reads; everything
after that is what a user would run.
"""

from __future__ import annotations

import argparse
import gzip
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson

from benchmarks.measuring import Remembering, rounded, write
from knowledge_index import Encoder, KnowledgeIndex, Query, build_index
from knowledge_index.retrieval import evaluate_retrieval, read_qrels, read_queries
from knowledge_index.sources import collect_articles

RESULT = Path(__file__).parent / "results" / "cystic_fibrosis.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cf74.xml.gz ... and queries-*.xml.gz")
    parser.add_argument("--out", type=Path, required=True, help="where JSONL, qrels and the index are written")
    options = parser.parse_args()
    started = time.perf_counter()
    index, queries, qrels = prepared(options.data, options.out)
    built = time.perf_counter() - started
    scores = evaluate_retrieval(index, queries, qrels)
    result: dict[str, Any] = {
        "collection": "Cystic Fibrosis (MEDLINE 1974-79), all judged queries present in the data folder",
        "queries": len(next(iter(scores.values())).by_query),
        "gain": "sum of four raters, 0 to 8",
        "counts": index.manifest.counts,
        "retrievers": {name: rounded(measured.to_json()) for name, measured in scores.items()},
        "intervals": {name: rounded(measured.intervals()) for name, measured in scores.items()},
        "versus_hybrid": {
            name: {measure: rounded(pair.to_json()) for measure, pair in measured.versus(scores["hybrid"]).items()}
            for name, measured in scores.items()
            if name != "hybrid"
        },
        "milliseconds_per_query": {name: latency(index, queries, name) for name in scores},
        "build_seconds": round(built, 1),
    }
    write(RESULT, result)


def prepared(
    data: Path, out: Path, encoder: Encoder | None = None
) -> tuple[KnowledgeIndex, dict[str, Query], dict[str, dict[str, int]]]:
    """The collection as files, indexed as a user would, by the default encoder unless another is given."""
    out.mkdir(parents=True, exist_ok=True)
    convert(data, out)
    collected = collect_articles("jsonl", [out / "articles.jsonl"])
    encoder = encoder or Remembering(out / "vectors")
    build_index(collected.articles.values(), out / "index", encoder, source="cystic-fibrosis")
    index = KnowledgeIndex.open(out / "index", encoder)
    return index, read_queries(out / "queries.jsonl"), read_qrels(out / "qrels.tsv")


def convert(data: Path, out: Path) -> None:
    """Write articles.jsonl, queries.jsonl and qrels.tsv."""
    records = [record for path in sorted(data.glob("cf7?.xml.gz")) for record in _parse(path).iter("RECORD")]
    cited = {key: _number(record) for record in records for key in _own_key(record)}
    with (out / "articles.jsonl").open("wb") as stream:
        for record in records:
            stream.write(orjson.dumps(_article(record, cited)) + b"\n")
    queries, judgements = [], []
    for path in sorted(data.glob("queries-*.xml.gz")):
        for query in _parse(path).iter("QUERY"):
            number = str(int(_text(query, "QueryNumber")))
            queries.append(orjson.dumps({"id": number, "text": _text(query, "QueryText")}))
            for item in query.iter("Item"):
                grade = sum(int(digit) for digit in item.get("score", ""))
                judgements.append(f"{number}\t0\t{int(item.text or '')}\t{grade}")
    (out / "queries.jsonl").write_bytes(b"\n".join(queries) + b"\n")
    (out / "qrels.tsv").write_text("\n".join(judgements) + "\n", encoding="utf-8")


def _parse(path: Path) -> ElementTree.Element:
    with gzip.open(path) as stream:
        return ElementTree.parse(stream).getroot()


def _text(element: ElementTree.Element, tag: str) -> str:
    return " ".join((element.findtext(tag) or "").split())


def _number(record: ElementTree.Element) -> str:
    return str(int(_text(record, "RECORDNUM")))


def _article(record: ElementTree.Element, cited: dict[tuple[str, str, str], str]) -> dict[str, Any]:
    own = _number(record)
    references = {cited[key] for cite in record.iterfind("REFERENCES/CITE") if (key := _cite_key(cite)) in cited}
    year = re.search(r"\b19[0-9]{2}\b", _text(record, "SOURCE"))
    return {
        "pmid": own,
        "title": _text(record, "TITLE"),
        "abstract": _text(record, "ABSTRACT") or _text(record, "EXTRACT"),
        "mesh": [*_headings(record, "MAJORSUBJ", True), *_headings(record, "MINORSUBJ", False)],
        "year": int(year.group()) if year else None,
        "references": sorted(references - {own}, key=int),
    }


def _headings(record: ElementTree.Element, tag: str, major: bool) -> Iterator[dict[str, Any]]:
    """`CYSTIC-FIBROSIS: co` is the heading Cystic Fibrosis with a qualifier."""
    for topic in record.iterfind(f"{tag}/TOPIC"):
        name = (topic.text or "").partition(":")[0].strip().replace("-", " ").capitalize()
        if name:
            yield {"name": name, "major": major}


def _own_key(record: ElementTree.Element) -> Iterator[tuple[str, str, str]]:
    """Volume, first page and year of a record, by which others cite it."""
    found = re.search(r"\b19([0-9]{2})\b.*?\. ([0-9]+)\(.*?P ([0-9]+)", _text(record, "SOURCE"))
    if found:
        yield found.group(2), found.group(3), found.group(1)


def _cite_key(cite: ElementTree.Element) -> tuple[str, str, str]:
    """`d1` is the volume, `d2` the first page, `d3` the last three digits of the year."""
    return cite.get("d1", ""), cite.get("d2", ""), cite.get("d3", "")[-2:]


def latency(index: KnowledgeIndex, queries: Any, retriever: str) -> float:
    """Median time of a search with the query's vector already known."""
    times = []
    for query in queries.values():
        start = time.perf_counter()
        index.search(query, 10, retriever)
        times.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(times), 2)


if __name__ == "__main__":
    main()
