"""The five collections on which retrieval is measured, each with one index, its questions and one measure a question.

| name | articles | questions | measure |
|---|---|---|---|
| cystic_fibrosis | 1,239 MEDLINE records with headings and citations | judged by four raters | nDCG@10, graded |
| patients | the starter base, headings hidden | problems of the demo charts | nDCG@10, graded |
| known_items | PubMedQA's abstracts with headings, titles hidden | their titles | nDCG@10, one right answer |
| reviews | 13,938 records without headings | topics of fourteen drug reviews | AUC within the review |
| trials | 4,357 trials, and titles of 98,425 cited papers | intervention, comparator, outcome | nDCG@10, one right |

`trials` asks one question for each article that answers any, drawn with a fixed seed: questions about one article are
not independent. nDCG@10 with one right answer is 1 / log2(1 + rank) to rank ten.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import cystic_fibrosis, drug_reviews, known_item, patient_queries
from knowledge_index import Encoder, KnowledgeIndex, Query, build_index
from knowledge_index.core.errors import ArtifactError, EncoderError
from knowledge_index.retrieval.relevance import ndcg
from knowledge_index.sources import collect_articles

LOOKED_AT, TRIAL_QUESTIONS = 400, 300
"""Drawn questions that the rule of fusion was found on, and questions after them that it is measured on."""

Measure = Callable[[str, Sequence[str]], float]
"""The value of a ranking of PMIDs for the question of that id."""


@dataclass(frozen=True, slots=True)
class Collection:
    """`depth` is how much of a ranking the measure reads; `pmids` are those of the index, by position."""

    name: str
    index: KnowledgeIndex
    queries: Mapping[str, Query]
    measure: Measure
    pmids: tuple[str, ...]
    depth: int = 10

    def value(self, name: str, order: NDArray[np.int64]) -> float:
        """The measure of a question for articles in this order, given by their positions in the index."""
        return self.measure(name, [self.pmids[at] for at in order[: self.depth].tolist()])


def cystic(data: Path, out: Path, encoder: Encoder) -> Collection:
    index, queries, qrels = cystic_fibrosis.prepared(data / "cystic-fibrosis", out, encoder)
    return _by_ndcg("cystic_fibrosis", index, queries, qrels)


def patients(_: Path, out: Path, encoder: Encoder) -> Collection:
    index, _charts, queries, qrels = patient_queries.prepared(out, encoder)
    return _by_ndcg("patients", index, queries, qrels)


def known_items(data: Path, out: Path, encoder: Encoder) -> Collection:
    return _by_ndcg("known_items", *known_item.prepared(data / "pubmedqa" / "ori_pqal.json.gz", out, encoder))


def reviews(data: Path, out: Path, encoder: Encoder, *, one_in: int = 1) -> Collection:
    """`one_in` N takes the records whose PMID is a multiple of N."""
    index, records = drug_reviews.prepared(data / "drug-class-reviews.jsonl.gz", out, encoder, one_in=one_in)
    every = {name: drug_reviews.labels_of(records, name) for name in drug_reviews.TOPICS}
    # A review can be measured where a record was included and another was not.
    labels = {name: included for name, included in every.items() if len(set(included.values())) == 2}
    queries = {name: Query(drug_reviews.TOPICS[name]) for name in labels}

    def measure(name: str, ranking: Sequence[str]) -> float:
        return drug_reviews.separation(ranking, labels[name])["auc"]

    return Collection("reviews", index, queries, measure, _pmids(index), len(index))


def trials(data: Path, out: Path, encoder: Encoder, *, with_cited: bool = True) -> Collection:
    folder = data / "evidence-inference"
    files = [folder / "references.jsonl.gz"] if with_cited else []
    articles = collect_articles("jsonl", [*files, folder / "articles.jsonl.gz"]).articles  # of two, the last counts
    index = _built(articles, out / "index", encoder)
    with gzip.open(folder / "prompts.tsv.gz", "rt", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if row["pmid"] in articles]
    queries, qrels = drawn_questions(rows)
    return _by_ndcg("trials" if with_cited else "trials_alone", index, queries, qrels)


def trials_alone(data: Path, out: Path, encoder: Encoder) -> Collection:
    """The same questions where only the trials are indexed: far fewer articles are like the right one."""
    return trials(data, out, encoder, with_cited=False)


def drawn_questions(rows: Sequence[Mapping[str, str]]) -> tuple[dict[str, Query], dict[str, dict[str, int]]]:
    """One question for each of `TRIAL_QUESTIONS` articles, by a fixed seed, and the article that answers it."""
    order = np.random.default_rng(0).permutation(len(rows))
    first = {rows[at]["pmid"]: rows[at] for at in reversed(order.tolist())}
    chosen = sorted(first.values(), key=lambda row: int(row["prompt"]))
    kept = np.sort(np.random.default_rng(1).permutation(len(chosen))[LOOKED_AT:][:TRIAL_QUESTIONS])
    picked = [chosen[at] for at in kept]
    queries = {
        row["prompt"]: Query(f"{row['intervention']} versus {row['comparator']}: {row['outcome']}") for row in picked
    }
    return queries, {row["prompt"]: {row["pmid"]: 1} for row in picked}


COLLECTIONS: Mapping[str, Callable[..., Collection]] = {
    "cystic_fibrosis": cystic,
    "patients": patients,
    "known_items": known_items,
    "reviews": reviews,
    "trials": trials,
    "trials_alone": trials_alone,
}


def _by_ndcg(
    name: str, index: KnowledgeIndex, queries: Mapping[str, Query], qrels: Mapping[str, Mapping[str, int]]
) -> Collection:
    relevant = {key: query for key, query in queries.items() if any(grade > 0 for grade in qrels.get(key, {}).values())}
    return Collection(name, index, relevant, lambda key, ranking: ndcg(ranking, qrels[key], 10), _pmids(index))


def _pmids(index: KnowledgeIndex) -> tuple[str, ...]:
    return tuple(index.article(at).pmid for at in range(len(index)))


def _built(articles: Mapping[str, object], out: Path, encoder: Encoder) -> KnowledgeIndex:
    """The index of an earlier run where it is of these articles and this encoder: it takes minutes to build."""
    try:
        index = KnowledgeIndex.open(out, encoder)
        if index.pmids == articles.keys():
            return index
    except (ArtifactError, EncoderError, OSError):
        pass
    build_index(articles, out, encoder, source="evidence-inference")  # type: ignore[arg-type]
    return KnowledgeIndex.open(out, encoder)
