"""Extracts statements about two concepts, (subject, relation, object), from the sentences of an article.

`TripleExtractor` is the interface: rules by default, annotated relations from a PubTator file, or any other extractor
that yields triples of descriptor ids. Negated mentions and pairs across sentences are not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from knowledge_index.core.values import Article, LinkedConcept, Triple
from knowledge_index.vocabulary.linker import Linker


class TripleExtractor(Protocol):
    """Extracts the statements of one article. Subjects and objects are descriptor ids; the relation is a phrase."""

    def extract(self, article: Article) -> Iterable[Triple]: ...


_FARTHEST = 80
"""Maximum characters between two mentions: beyond that, a verb seldom relates them."""

# (relation, words in the active voice, participle of the passive voice)
_VERBS = (
    ("induces", r"induc(?:e|es|ed|ing)|caus(?:e|es|ed|ing)|leads? to|led to|result(?:s|ed)? in|provok(?:es?|ed)",
     r"induced|caused|provoked|produced"),
    ("prevents", r"prevent(?:s|ed|ing)?|protect(?:s|ed)? against", r"prevented"),
    ("treats", r"treat(?:s|ing)?|reliev(?:es?|ed)|(?:is|was|were) effective (?:in|for|against)|for the treatment of",
     r"treated|managed|relieved"),
    ("decreases", r"reduc(?:e|es|ed|ing)|decreas(?:e|es|ed|ing)|lower(?:s|ed)?|attenuat(?:e|es|ed)|inhibit(?:s|ed)?",
     r"reduced|decreased|lowered|attenuated|inhibited"),
    ("increases", r"increas(?:e|es|ed|ing)|rais(?:es?|ed)|worsen(?:s|ed)?|aggravat(?:es?|ed)",
     r"increased|raised|worsened|aggravated"),
    ("predicts", r"predict(?:s|ed|ing)?|foretells?|foretold|(?:is|was|are|were) (?:a |an )?(?:\w+ )?predictors? of",
     r"predicted"),
    ("is associated with",
     r"(?:is|was|are|were|been)? ?(?:\w+ )?(?:associated|correlated|related) (?:with|to)", r"accompanied"),
)  # fmt: skip
_PASSIVE = [(relation, re.compile(rf"\b(?:{passive})\s+(?:by|with)\b", re.I)) for relation, _, passive in _VERBS]
_ACTIVE = [(relation, re.compile(rf"\b(?:{active})\b", re.I)) for relation, active, _ in _VERBS]
_HYPHENATED = re.compile(r"\s?-\s?(?:induced|associated|related)\s+(?:\w+\s+){0,2}\Z", re.I)
_SENTENCE = re.compile(r"[.;!?]\s")
_NEGATED = re.compile(r"\b(?:not|no|neither|nor|without|did not|failed to)\b", re.I)


class GivenTriples:
    """GivenTriples({pmid: triples}) yields known statements, and for other articles those of `otherwise`."""

    def __init__(self, given: Mapping[str, Sequence[Triple]], otherwise: TripleExtractor | None = None) -> None:
        self._given, self._otherwise = given, otherwise

    def extract(self, article: Article) -> Iterable[Triple]:
        if article.pmid in self._given or self._otherwise is None:
            return self._given.get(article.pmid, ())
        return self._otherwise.extract(article)


class RuleTripleExtractor:
    """Two consecutive concepts of a sentence with a verb of relation between them.

    >>> from knowledge_index.vocabulary.linker import Linker
    >>> article = Article("1", "Hyponatremia caused by furosemide", "Furosemide relieved edema.")
    >>> [(t.subject, t.relation, t.object) for t in RuleTripleExtractor(Linker()).extract(article)]
    [('D005665', 'induces', 'D007010'), ('D005665', 'treats', 'D004487')]
    """

    def __init__(self, linker: Linker) -> None:
        self._linker = linker

    def extract(self, article: Article) -> Iterator[Triple]:
        text = article.text
        seen: set[tuple[str, str, str]] = set()
        for one, other in pairwise(self._linker.link_text(text)):
            found = _relation(text, one, other)
            if found and found not in seen and found[0] != found[2]:
                seen.add(found)
                yield Triple(*found, article.pmid)


def _relation(text: str, one: LinkedConcept, other: LinkedConcept) -> tuple[str, str, str] | None:
    assert one.end is not None
    assert other.start is not None
    between = text[one.end : other.start]
    if one.negated or other.negated or len(between) > _FARTHEST or "\n" in between:
        return None
    if _SENTENCE.search(between) or _NEGATED.search(between):
        return None
    first, second = one.concept.ui, other.concept.ui
    if _HYPHENATED.match(between):
        return first, "induces", second
    for relation, pattern in _PASSIVE:
        if pattern.search(between):
            return second, relation, first
    for relation, pattern in _ACTIVE:
        if pattern.search(between):
            return first, relation, second
    return None
