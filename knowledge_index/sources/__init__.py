"""Article sources: PubMed XML, JSON Lines, PubTator, BioC, and NCBI's E-utilities."""

from knowledge_index.sources.annotations import annotated_triples, read_annotations
from knowledge_index.sources.articles import SOURCES, CollectedArticles, SpooledArticles, collect_articles, files_of
from knowledge_index.sources.eutils import Eutils, Fetch

__all__ = [
    "SOURCES",
    "CollectedArticles",
    "Eutils",
    "Fetch",
    "SpooledArticles",
    "annotated_triples",
    "collect_articles",
    "files_of",
    "read_annotations",
]
