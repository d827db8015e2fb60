"""Fourteen drug-class reviews: `python -m benchmarks.drug_reviews --data FILE --out DIR [--limit N] [--vocabulary V]`.

FILE holds 13,938 PubMed records, each with the reviews that screened it and whether they included it (Cohen et al.,
JAMIA 2006). One index holds them all; each review is one question, its topic in plain words, and its own records are
ranked by their place in the answer. Measured per review: the area under the ROC curve (an included record above an
excluded one) and average precision; means over reviews, and the graph against the hybrid paired by review. The records
have no MeSH headings: the graph has mentions alone. Inclusion was decided by study design more than by topic, so no
retriever can come near 1. `--limit` takes the first N records of the file; vectors are kept in DIR.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.measuring import Remembering, write
from knowledge_index import Article, Encoder, KnowledgeIndex, Query, build_index
from knowledge_index.retrieval import RETRIEVERS
from knowledge_index.retrieval.significance import paired
from knowledge_index.vocabulary import vocabulary_named

RESULT = Path(__file__).parent / "results" / "drug_reviews.json"

TOPICS = {
    "ACEInhibitors": "angiotensin-converting enzyme inhibitors",
    "ADHD": "drugs for attention deficit hyperactivity disorder",
    "Antihistamines": "newer antihistamines",
    "AtypicalAntipsychotics": "atypical antipsychotic drugs",
    "BetaBlockers": "beta adrenergic blockers",
    "CalciumChannelBlockers": "calcium channel blockers",
    "Estrogens": "estrogens for menopausal symptoms and osteoporosis prevention",
    "NSAIDS": "nonsteroidal anti-inflammatory drugs",
    "Opiods": "long-acting opioid analgesics for chronic pain",
    "OralHypoglycemics": "oral hypoglycemics for type 2 diabetes",
    "ProtonPumpInhibitors": "proton pump inhibitors",
    "SkeletalMuscleRelaxants": "skeletal muscle relaxants",
    "Triptans": "triptans for migraine",
    "UrinaryIncontinence": "drugs for overactive bladder and urinary incontinence",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="drug-class-reviews.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="where vectors and the index are written")
    parser.add_argument("--limit", type=int, help="the first records only")
    parser.add_argument("--vocabulary", help="more names of concepts, see `riskcards index build`")
    options = parser.parse_args()
    index, records = prepared(options.data, options.out, limit=options.limit, vocabulary=options.vocabulary)
    reviews = {name: review(index, records, name) for name in TOPICS}
    write(
        RESULT,
        {
            "collection": "14 drug-class reviews, one index of all records, ranked within each review",
            "records": len(records),
            "vocabulary": options.vocabulary or "shipped",
            "mean": {r: {m: mean(reviews, r, m) for m in ("auc", "ap")} for r in RETRIEVERS},
            "graph_versus_hybrid": {
                m: paired(
                    [item["graph"][m] for item in reviews.values()], [item["hybrid"][m] for item in reviews.values()]
                ).to_json()
                for m in ("auc", "ap")
            },
            "reviews": reviews,
        },
    )


def prepared(
    data: Path,
    out: Path,
    encoder: Encoder | None = None,
    limit: int | None = None,
    vocabulary: str | None = None,
    one_in: int = 1,
) -> tuple[KnowledgeIndex, list[dict[str, Any]]]:
    """An index of the first `limit` records whose PMID is a multiple of `one_in`, and the records."""
    every = [orjson.loads(line) for line in gzip.decompress(data.read_bytes()).splitlines()][:limit]
    records = [record for record in every if int(record["pmid"]) % one_in == 0]
    encoder = encoder or Remembering(out / "vectors")
    articles = [Article(record["pmid"], record["title"] or "", record["abstract"] or "") for record in records]
    names = vocabulary_named(vocabulary) if vocabulary else ()
    build_index(articles, out / "index", encoder, source="drug-class-reviews", vocabulary=names)
    return KnowledgeIndex.open(out / "index", encoder), records


def review(index: KnowledgeIndex, records: list[dict[str, Any]], name: str) -> dict[str, dict[str, float]]:
    """Both measures for each retriever; a record that was not retrieved stands after all that were."""
    included = labels_of(records, name)
    return {
        retriever: separation([pmid for pmid, _ in index.ranking(Query(TOPICS[name]), len(index), retriever)], included)
        for retriever in RETRIEVERS
    }


def labels_of(records: list[dict[str, Any]], name: str) -> dict[str, bool]:
    """Whether the review included each record it screened, by PMID."""
    return {r["pmid"]: r["reviews"][name]["label_included"] == "1" for r in records if name in r["reviews"]}


def separation(ranking: Sequence[str], included: Mapping[str, bool]) -> dict[str, float]:
    """AUC and average precision of a ranking over the records of one review."""
    place = {pmid: at for at, pmid in enumerate(ranking)}
    scores = [-place.get(pmid, len(ranking)) for pmid in included]
    labels = list(included.values())
    return {"auc": float(roc_auc_score(labels, scores)), "ap": float(average_precision_score(labels, scores))}


def mean(reviews: dict[str, dict[str, dict[str, float]]], retriever: str, measure: str) -> float:
    return sum(item[retriever][measure] for item in reviews.values()) / len(reviews)


if __name__ == "__main__":
    main()
