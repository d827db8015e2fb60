"""The detail of a card in GitHub Flavored Markdown: what a clinician reads in a few seconds.

At most 90 words for one task and 130 for two: the risk against the cohort average, the strongest drivers each way, the
best-fitting established score, what is missing, one paper. Notes, literature, data and their codes are in the app.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cds_service.cards.escape import gfm
from cds_service.cards.scores import disagreement, fitting_scores, leading_score, score_words
from cds_service.cards.wording import driver_words, lower_first, outcome_name, percent, percent_range
from risk_model import Assessment, Driver, RiskEstimate

MAX_WORDS: Mapping[int, int] = {1: 90, 2: 130}
STRONGEST = 3
"""Drivers shown each way; fewer where the words would not fit."""
MAX_MISSING = 3
# Abstentions after which data would still give an estimate: then what is missing matters.
_DATA_WOULD_HELP = frozenset({"too-little-data", "input-unknown"})


def detail(assessments: Sequence[Assessment]) -> str:
    """Returns one text for the tasks of a stay, within MAX_WORDS."""
    limit = MAX_WORDS.get(len(assessments), max(MAX_WORDS.values()))
    text = ""
    for strongest in range(STRONGEST, 0, -1):
        for paper in (True, False):
            text = _written(assessments, strongest, paper=paper)
            if len(text.split()) <= limit:
                return text
    return _cut(text, limit)


def _written(assessments: Sequence[Assessment], strongest: int, *, paper: bool) -> str:
    blocks = ["  \n".join(_answer(assessment.estimate, strongest)) for assessment in assessments]
    if paper:
        blocks += list(_paper(assessments))[:1]
    return "\n\n".join(blocks)


def _cut(text: str, limit: int) -> str:
    """Long words of a chart or a site: cut at whole words, so that the start is still read."""
    words = text.split()
    return " ".join(words[:limit]) + ("" if len(words) <= limit else " …")


def _answer(estimate: RiskEstimate, strongest: int) -> Iterator[str]:
    yield _risk(estimate)
    if estimate.probability is not None:
        yield from (f"**Caution:** {gfm(caution, 160)}" for caution in estimate.cautions[:1])
        yield from _drivers(estimate.drivers, strongest)
    score = leading_score(estimate)
    if score is not None:
        words = disagreement(estimate)
        yield f"{gfm(score_words(score))}." + (f" **{gfm(words)}**" if words else "")
    elif estimate.comparators:
        yield f"No score: too much is missing for {gfm(_either(s.name for s in fitting_scores(estimate)))}."
    missing = missing_that_matters(estimate)
    if missing:
        yield f"Missing: {gfm(', '.join(missing), 120)}."


def _risk(estimate: RiskEstimate) -> str:
    name = gfm(outcome_name(estimate.asked))
    if estimate.probability is None:
        reason = "" if estimate.abstention is None else gfm(estimate.abstention.reason, 300)
        return f"**{name}: no estimate.** {reason}".strip()
    interval = "" if estimate.interval is None else f" ({percent_range(*estimate.interval)})"
    average = "" if estimate.baseline is None else f", cohort average {percent(estimate.baseline)}"
    return f"**{name} {percent(estimate.probability)}{interval}**{average}."


def _drivers(drivers: Sequence[Driver], strongest: int) -> Iterator[str]:
    for title, sign in (("Raises", 1), ("Lowers", -1)):
        chosen = sorted((d for d in drivers if d.contribution * sign > 0), key=lambda d: -abs(d.contribution))
        words = dict.fromkeys(driver_words(driver) for driver in chosen)
        if words:
            yield f"{title}: {', '.join(list(words)[:strongest])}."


def missing_that_matters(estimate: RiskEstimate) -> tuple[str, ...]:
    """Returns at most three missing inputs: those of the best-fitting score first, which widen its range, then those
    of the model. None for a patient outside the model's population.
    """
    score = leading_score(estimate)
    of_score = () if score is None else score.missing
    helps = estimate.abstention is None or estimate.abstention.code in _DATA_WOULD_HELP
    of_model = tuple(lower_first(gap.name) for gap in estimate.gaps) if helps else ()
    named: dict[str, str] = {}
    for name in (*of_score, *of_model):
        named.setdefault(name.casefold().removeprefix("total "), name)
    return tuple(named.values())[:MAX_MISSING]


def _paper(assessments: Sequence[Assessment]) -> Iterator[str]:
    """The first paper about one of the drivers or problems and the outcome, with its title as published."""
    for assessment in assessments:
        for evidence in assessment.evidence:
            if evidence.factor and evidence.outcome:
                about = f"{evidence.factor} and {evidence.outcome}"
                yield f"Evidence on {gfm(about, 80)}: [{gfm(evidence.citation or evidence.title, 120)}]({evidence.url})."


def _either(names: Iterable[str]) -> str:
    """
    >>> _either(["NEWS2", "qSOFA"])
    'NEWS2 or qSOFA'
    """
    return " or ".join(names)
