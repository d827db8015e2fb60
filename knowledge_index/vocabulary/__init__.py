"""MeSH concepts with their names, abbreviations and codes; factors and outcomes."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from knowledge_index.vocabulary.risk_factors import OUTCOMES, factor_of_heading, factors, factors_of_concept
    from knowledge_index.vocabulary.vocabulary_files import vocabulary_named

__all__ = [
    "OUTCOMES",
    "factor_of_heading",
    "factors",
    "factors_of_concept",
    "vocabulary_named",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "OUTCOMES": "knowledge_index.vocabulary.risk_factors",
        "factor_of_heading": "knowledge_index.vocabulary.risk_factors",
        "factors": "knowledge_index.vocabulary.risk_factors",
        "factors_of_concept": "knowledge_index.vocabulary.risk_factors",
        "vocabulary_named": "knowledge_index.vocabulary.vocabulary_files",
    },
)
