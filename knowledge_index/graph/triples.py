"""Extracts statements about two concepts, (subject, relation, object), from the sentences of an article.

`TripleExtractor` is the interface: rules by default, annotated relations from a PubTator file, or any other extractor
that yields triples of descriptor ids. Negated mentions and pairs across sentences are not used. What a sentence denies
gives a statement only where the denial is the finding ("had no effect on", "is not associated with").
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
    ("complicates", r"complicat(?:es?|ing)", r"complicated"),
    ("diagnoses", r"diagnos(?:es|ing|tic (?:of|for))|detect(?:s|ed|ing)?", r"diagnosed|detected"),
    ("is associated with",
     r"(?:is|was|are|were|been)? ?(?:\w+ )?(?:associated|correlated|related) (?:with|to)", r"accompanied"),
)  # fmt: skip
_PASSIVE = [(relation, re.compile(rf"\b(?:{passive})\s+(?:by|with)\b", re.I)) for relation, _, passive in _VERBS]
_ACTIVE = [(relation, re.compile(rf"\b(?:{active})\b", re.I)) for relation, active, _ in _VERBS]
_NOT_DONE, _NOT_BEEN = (rf"(?:{verbs}) not (?:\w+ )?" for verbs in ("did|does|do|could", "was|were|is|are|been"))
_CHANGED = r"(?:change|affect|alter|influence|modif|improv|reduc|increas|decreas|lower)\w*"
_NO_EFFECT = r"ha(?:d|s|ve) no (?:\w+ )?(?:effect|influence|impact) on"
_DENIED = (
    ("does not change", True, re.compile(rf"\b{_NOT_BEEN}{_CHANGED} by\b", re.I)),
    ("does not change", False, re.compile(rf"\b(?:{_NOT_DONE}{_CHANGED}|{_NO_EFFECT})\b", re.I)),
    (
        "is not associated with",
        False,
        re.compile(rf"\b{_NOT_BEEN}(?:associated|correlated|related) (?:with|to)\b", re.I),
    ),
)
"""(relation, whether subject and object are exchanged, words) of findings that are denials."""
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
    if one.negated or len(between) > _FARTHEST or "\n" in between or _SENTENCE.search(between):
        return None
    first, second = one.concept.ui, other.concept.ui
    for relation, exchanged, pattern in _DENIED:
        # The denial marks the second mention as negated, too: it is the verb that is denied.
        if found := pattern.search(between):
            denied_twice = _NEGATED.search(between[: found.start()] + between[found.end() :])
            subject, object_ = (second, first) if exchanged else (first, second)
            return None if denied_twice else (subject, relation, object_)
    if other.negated or _NEGATED.search(between):
        return None
    if _HYPHENATED.match(between):
        return first, "induces", second
    for relation, pattern in _PASSIVE:
        if pattern.search(between):
            return second, relation, first
    for relation, pattern in _ACTIVE:
        if pattern.search(between):
            return first, relation, second
    return None
