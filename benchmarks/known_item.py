"""Known-item retrieval, a question's own abstract: `python -m benchmarks.known_item --data FILE --out DIR [--limit N]`.

FILE is PubMedQA's labelled set: 1,000 questions, each the title of a PubMed article, with its abstract (less the
conclusion) and MeSH terms. One index holds the abstracts without their titles; each question has one right answer.
Measured: mean reciprocal rank, hits at 1 and 10, and the graph against the hybrid paired by question. There is little
to improve: the flat hybrid puts the right abstract first 97 times in a hundred.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import orjson

from benchmarks.measuring import Remembering, write
from knowledge_index import Article, Encoder, KnowledgeIndex, MeshHeading, Query, build_index
from knowledge_index.retrieval import RETRIEVERS
from knowledge_index.retrieval.significance import interval, paired

RESULT = Path(__file__).parent / "results" / "known_item.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="ori_pqal.json.gz")
    parser.add_argument("--out", type=Path, required=True, help="where vectors and the index are written")
    parser.add_argument("--limit", type=int, help="the first questions only")
    options = parser.parse_args()
    index, queries, _ = prepared(options.data, options.out, limit=options.limit)
    reciprocal = {
        retriever: [reciprocal_rank(index, pmid, query, retriever) for pmid, query in queries.items()]
        for retriever in RETRIEVERS
    }
    write(
        RESULT,
        {
            "collection": "PubMedQA, labelled set: question to its own abstract",
            "questions": len(queries),
            "retrievers": {
                name: {
                    "mrr": sum(values) / len(values),
                    "interval": list(interval(values)),
                    "hit@1": sum(value == 1 for value in values) / len(values),
                    "hit@10": sum(value >= 0.1 for value in values) / len(values),
                }
                for name, values in reciprocal.items()
            },
            "graph_versus_hybrid": {"mrr": paired(reciprocal["graph"], reciprocal["hybrid"]).to_json()},
        },
    )


def prepared(
    data: Path, out: Path, encoder: Encoder | None = None, limit: int | None = None
) -> tuple[KnowledgeIndex, dict[str, Query], dict[str, dict[str, int]]]:
    """The abstracts without their titles, indexed; the questions and the one right answer of each, by PMID."""
    records = dict(list(orjson.loads(gzip.decompress(data.read_bytes())).items())[:limit])
    encoder = encoder or Remembering(out / "vectors")
    articles = [
        Article(pmid, "", " ".join(record["CONTEXTS"]), tuple(MeshHeading(name) for name in record["MESHES"]))
        for pmid, record in records.items()
    ]
    # All questions at once, so that their vectors are kept too.
    encoder.encode([record["QUESTION"] for record in records.values()])
    build_index(articles, out / "index", encoder, source="pubmedqa")
    queries = {pmid: Query(record["QUESTION"]) for pmid, record in records.items()}
    return KnowledgeIndex.open(out / "index", encoder), queries, {pmid: {pmid: 1} for pmid in records}


def reciprocal_rank(index: KnowledgeIndex, pmid: str, query: Query, retriever: str) -> float:
    """One over the place of the right abstract among the first hundred, 0 where it is not there."""
    ranking = [found for found, _ in index.ranking(query, 100, retriever)]
    return 1.0 / (1 + ranking.index(pmid)) if pmid in ranking else 0.0


if __name__ == "__main__":
    main()
