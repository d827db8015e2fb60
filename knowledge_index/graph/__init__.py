"""The graph of articles and concepts: edges, statements, communities, personalised PageRank."""

from knowledge_index.graph.communities import largest_communities
from knowledge_index.graph.llm_triples import Ask, ModelTripleExtractor, TripleQuestion
from knowledge_index.graph.triples import GivenTriples, RuleTripleExtractor

__all__ = [
    "Ask",
    "GivenTriples",
    "ModelTripleExtractor",
    "RuleTripleExtractor",
    "TripleQuestion",
    "largest_communities",
]
