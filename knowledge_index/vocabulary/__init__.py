"""MeSH concepts: names, abbreviations and codes, links from text to them, factors and outcomes of the literature."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from knowledge_index.vocabulary.linker import Linker, in_plain_order
    from knowledge_index.vocabulary.risk_factors import (
        OUTCOMES,
        SETTINGS,
        factor_of_heading,
        factors,
        factors_of_concept,
    )
    from knowledge_index.vocabulary.vocabulary_files import vocabulary_named

__all__ = [
    "OUTCOMES",
    "SETTINGS",
    "Linker",
    "factor_of_heading",
    "factors",
    "factors_of_concept",
    "in_plain_order",
    "vocabulary_named",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Linker": "knowledge_index.vocabulary.linker",
        "OUTCOMES": "knowledge_index.vocabulary.risk_factors",
        "SETTINGS": "knowledge_index.vocabulary.risk_factors",
        "factor_of_heading": "knowledge_index.vocabulary.risk_factors",
        "factors": "knowledge_index.vocabulary.risk_factors",
        "factors_of_concept": "knowledge_index.vocabulary.risk_factors",
        "in_plain_order": "knowledge_index.vocabulary.linker",
        "vocabulary_named": "knowledge_index.vocabulary.vocabulary_files",
    },
)
