"""Rebuilds the shipped starter index from its articles: `python -m knowledge_index.indexing.starter`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from knowledge_index.core.errors import ArtifactError
from knowledge_index.core.storage import Manifest
from knowledge_index.core.values import Article, Triple
from knowledge_index.encoders.registry import MiniLMEncoder, available_threads
from knowledge_index.graph.knowledge_graph import RELATIONS
from knowledge_index.graph.triples import GivenTriples
from knowledge_index.indexing.build import build_index
from knowledge_index.sources.articles import CollectedArticles, collect_articles

STARTER = Path(__file__).parents[1] / "starter"


def starter_articles() -> CollectedArticles:
    """The articles as committed, in the order of their PMIDs."""
    collected = collect_articles("jsonl", [STARTER / "articles"])
    if collected.refused:
        raise collected.refused[0]
    collected.articles = {pmid: collected.articles[pmid] for pmid in sorted(collected.articles, key=int)}
    return collected


def starter_statements(articles: Mapping[str, Article]) -> dict[str, tuple[Triple, ...]]:
    """What titles and findings of the articles state about two of their headings, by PMID, as committed.

    Written by hand: the rules join neighbours where a title has several concepts (decision 77).
    Raises `ArtifactError` for an article or a heading that is not there, and for a relation the graph has no words for.
    """
    path = STARTER / "statements.tsv"
    found: dict[str, tuple[Triple, ...]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream, delimiter="\t"), 2):
            headings = {item.name: item.ui for item in articles[row["pmid"]].mesh} if row["pmid"] in articles else {}
            if row["subject"] not in headings or row["object"] not in headings or row["relation"] not in RELATIONS:
                raise ArtifactError(f"line {number} names no article, heading or relation there is", path=str(path))
            stated = Triple(headings[row["subject"]], row["relation"], headings[row["object"]], row["pmid"])
            found[row["pmid"]] = (*found.get(row["pmid"], ()), stated)
    return found


def build(out: Path) -> Manifest:
    """Builds the starter index into `out`."""
    articles = starter_articles().articles
    stated = starter_statements(articles)
    return build_index(
        articles.values(),
        out,
        MiniLMEncoder(threads=available_threads()),
        source="starter",
        statements=lambda _: GivenTriples(stated),
    )


if __name__ == "__main__":
    manifest = build(STARTER / "index")
    print(f"{manifest.counts['articles']} articles, {manifest.size} bytes")  # noqa: T201 - a command's answer
