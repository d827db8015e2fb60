"""Retrieval of patients' problems from the starter base: `python -m benchmarks.patient_queries --out DIR`.

The questions are those the product asks: for each problem coded in the charts of the demo (the newest conditions, as
in `risk_model.pipeline.assess`), its name with the words of the outcome, and both descriptors. An article counts as
relevant when NLM indexed it with the problem's descriptor or a narrower one of the MeSH tree. Retrieval must not see
its labels, so the index is built from the starter articles *without* their headings: the graph has mentions, tree and
citations only. The criterion asks for the subject, not for usefulness at the bedside.

`milliseconds_per_patient` is the whole retrieval of one patient, every question of the chart, warm, on the shipped
starter index with its headings; `processor` is its processor time, which does not depend on other load, and `fastest`
the median over patients of each one's fastest round.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measuring import Remembering, write
from fhir_mapping import PatientRecord
from knowledge_index import Article, Concept, Encoder, KnowledgeIndex, Query, build_index
from knowledge_index.indexing import starter_articles
from knowledge_index.retrieval import evaluate_retrieval
from risk_model.pipeline.assess import MAX_QUERIES, PER_QUERY

RESULT = Path(__file__).parent / "results" / "patient_queries.json"
CHARTS = Path(__file__).parents[1] / "cds_service" / "demo" / "patients"
OUTCOME, OUTCOME_CONCEPT = "hospital mortality", "D017052"
ROUNDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where vectors and the index are written")
    options = parser.parse_args()
    index, charts, queries, qrels = prepared(options.out)
    scores = evaluate_retrieval(index, queries, qrels)
    write(
        RESULT,
        {
            "collection": "starter base, headings hidden from the index; problems of the demo charts",
            "problems": len(queries),
            "problems_with_an_article": len(scores["graph"].by_query),
            "retrievers": {name: item.to_json() for name, item in scores.items()},
            "graph_versus_hybrid": {k: pair.to_json() for k, pair in scores["graph"].versus(scores["hybrid"]).items()},
            "milliseconds_per_patient": latency([chart for chart in charts if chart]),
        },
    )


def prepared(
    out: Path, encoder: Encoder | None = None
) -> tuple[KnowledgeIndex, list[tuple[Concept, ...]], dict[str, Query], dict[str, dict[str, int]]]:
    """The index without headings; the problems of each chart; the questions and their judgements."""
    articles = list(starter_articles().articles.values())
    encoder = encoder or Remembering(out / "vectors")
    bare = [replace(article, mesh=()) for article in articles]
    build_index(bare, out / "index", encoder, source="starter without headings")
    index = KnowledgeIndex.open(out / "index", encoder)
    charts = [problems(index, path) for path in sorted(CHARTS.glob("*.json.gz"))]
    asked = {concept.ui: concept for chart in charts for concept in chart}
    qrels = {ui: graded_relevance(concept, articles, index) for ui, concept in asked.items()}
    return index, charts, {ui: question(concept) for ui, concept in asked.items()}, qrels


def problems(index: KnowledgeIndex, path: Path) -> tuple[Concept, ...]:
    """The concepts of a chart's active conditions, at most as many as the product asks about."""
    record = PatientRecord.from_json(gzip.decompress(path.read_bytes()))
    codings = [(c.system, c.code, c.display) for item in record.conditions if item.active for c in item.codings]
    return tuple(linked.concept for linked in index.link_codes(reversed(codings)))[:MAX_QUERIES]


def question(concept: Concept) -> Query:
    return Query(f"{concept.name} {OUTCOME}", (concept.ui, OUTCOME_CONCEPT))


def graded_relevance(concept: Concept, articles: list[Article], index: KnowledgeIndex) -> dict[str, int]:
    """2 for a major heading of the problem or below it, 1 for a minor one, by PMID."""
    grades: dict[str, int] = {}
    for article in articles:
        below = [heading for heading in article.mesh if _is_below(index.concept(heading.ui), concept)]
        if below:
            grades[article.pmid] = 2 if any(heading.major for heading in below) else 1
    return grades


def _is_below(one: Concept | None, other: Concept) -> bool:
    if one is None:
        return False
    return one.ui == other.ui or any(
        number.startswith(above + ".") for number in one.tree_numbers for above in other.tree_numbers
    )


def latency(charts: list[tuple[Concept, ...]]) -> dict[str, Any]:
    """Every question of a chart through the shipped index, after one round to warm it."""
    index = KnowledgeIndex.open_starter()
    rounds: list[list[float]] = [[] for _ in charts]
    processor: list[float] = []
    for turn in range(ROUNDS + 1):
        for chart, times in zip(charts, rounds, strict=True):
            started, busy = time.perf_counter(), time.process_time()
            for concept in chart:
                index.retrieve(question(concept), PER_QUERY)
            if turn:
                times.append((time.perf_counter() - started) * 1000)
                processor.append((time.process_time() - busy) * 1000)
    times = [one for of_chart in rounds for one in of_chart]
    return {
        "patients": len(charts),
        "questions": statistics.mean(map(len, charts)),
        "median": statistics.median(times),
        "p95": statistics.quantiles(times, n=20)[-1],
        "fastest": statistics.median(map(min, rounds)),
        "processor_median": statistics.median(processor),
    }


if __name__ == "__main__":
    main()
