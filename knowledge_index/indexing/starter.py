"""Rebuilds the shipped starter index from its articles: `python -m knowledge_index.indexing.starter`."""

from __future__ import annotations

from pathlib import Path

from knowledge_index.core.storage import Manifest
from knowledge_index.encoders.registry import MiniLMEncoder, available_threads
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


def build(out: Path) -> Manifest:
    """Builds the starter index into `out`."""
    articles = starter_articles().articles.values()
    return build_index(articles, out, MiniLMEncoder(threads=available_threads()), source="starter")


if __name__ == "__main__":
    manifest = build(STARTER / "index")
    print(f"{manifest.counts['articles']} articles, {manifest.size} bytes")  # noqa: T201 - a command's answer
