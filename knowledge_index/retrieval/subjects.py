"""Whether an article is about a factor and an outcome, and how directly.

A curated article names them (`Article.factors`, `Article.outcomes`). For any other article the MeSH headings decide:
one of the factor's headings, and one of the outcome's headings or subheadings.
"""

from __future__ import annotations

from knowledge_index.core.values import Article, Factor, LiteratureSubject

_NO_OBSERVATION = ("trial", "before-after", "guideline", "consensus", "protocol")


def is_curated(article: Article) -> bool:
    """Whether factors and outcomes were assigned to the article by hand."""
    return bool(article.factors and article.outcomes)


def is_about(article: Article, subject: LiteratureSubject) -> bool:
    """Whether the article is about the subject's factor and its outcome.

    >>> from knowledge_index.vocabulary.risk_factors import OUTCOMES, factors
    >>> sodium = LiteratureSubject(factors()["sodium"], OUTCOMES["mortality"])
    >>> is_about(Article("1", "", "", factors=("sodium",), outcomes=("readmission",)), sodium)
    False
    """
    factor, outcome = subject.factor, subject.outcome
    if is_curated(article):
        return factor.name in article.factors and outcome.name in article.outcomes
    mine = [heading for heading in article.mesh if heading.name in factor.headings]
    subheadings = {qualifier.removeprefix("*") for heading in mine for qualifier in heading.qualifiers}
    named = any(heading.name in outcome.headings for heading in article.mesh)
    return bool(mine) and (named or not subheadings.isdisjoint(outcome.qualifiers))


def remoteness(article: Article, factor: Factor) -> int:
    """0 for an observation of this factor, 1 where it is one variable of several (no major heading), 2 and 3 for trials
    and guidelines.

    A trial says what a treatment does; a cohort or a score says what the factor means for the outcome.
    """
    observed = not any(word in (article.study_type or "") for word in _NO_OBSERVATION)
    main = any(heading.major and heading.name in factor.headings for heading in article.mesh)
    return 2 * (not observed) + (not main)
