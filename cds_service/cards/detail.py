"""The detail of a card in GitHub Flavored Markdown: what a clinician reads in a few seconds.

At most 90 words for one task and 130 for two: the risk against the cohort average, the strongest drivers each way, the
best-fitting established score, what is missing, one paper. Notes, literature, data and their codes are in the app.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cds_service.cards.driver_lines import driver_lines
from cds_service.cards.escape import gfm
from cds_service.cards.missing import missing_that_matters
from cds_service.cards.scores import comparable_risk, disagreement, fitting_scores, leading_score, score_words
from cds_service.cards.wording import counted, outcome_name, percent, percent_range
from fhir_mapping import PatientRecord
from risk_model import TASKS, Assessment, RiskEstimate, why_no_score

MAX_WORDS: Mapping[int, int] = {1: 90, 2: 130}
# What a kind of resource holds, as a clinician calls it.
_KINDS: Mapping[str, str] = {
    "Composition": "notes",
    "Condition": "problem list",
    "DocumentReference": "notes",
    "Encounter": "encounters",
    "MedicationRequest": "medications",
    "MedicationStatement": "medications",
    "Observation": "measurements",
    "Procedure": "procedures",
}
STRONGEST = 3
"""Drivers shown each way; fewer where the words would not fit."""


def detail(assessments: Sequence[Assessment], record: PatientRecord) -> str:
    """Returns one text for the tasks of a stay, within MAX_WORDS."""
    limit = MAX_WORDS.get(len(assessments), max(MAX_WORDS.values()))
    around = [(tuple(_number(each.estimate)), tuple(_beside(each.estimate, record))) for each in assessments]
    limits = list(filter(None, [" ".join(_limits(assessments, record))]))
    paper = list(_paper(assessments))[:1]
    text = ""
    for strongest in range(STRONGEST, 0, -1):
        answers = [
            "  \n".join((*before, *_drivers(each.estimate, strongest), *after))
            for each, (before, after) in zip(assessments, around, strict=True)
        ]
        for cited in (paper, []):
            text = "\n\n".join((*answers, *limits, *cited))
            if len(text.split()) <= limit:
                return text
    return _cut(text, limit)


def _cut(text: str, limit: int) -> str:
    """Long words of a chart or a site: cut at whole words, so that the start is still read."""
    words = text.split()
    return " ".join(words[:limit]) + ("" if len(words) <= limit else " …")


def _number(estimate: RiskEstimate) -> Iterator[str]:
    """The estimate, and a caution about it."""
    yield _risk(estimate)
    if estimate.probability is not None:
        yield from (f"**Caution:** {gfm(caution, 240)}" for caution in estimate.cautions[:1])


def _drivers(estimate: RiskEstimate, strongest: int) -> Iterable[str]:
    return () if estimate.probability is None else driver_lines(estimate, strongest)


def _beside(estimate: RiskEstimate, record: PatientRecord) -> Iterator[str]:
    """The established score, and what is missing."""
    score = leading_score(estimate)
    if score is not None:
        words = disagreement(estimate)
        # The sentence gives the published risk; it is not said twice.
        yield f"{gfm(score_words(score, published=not words))}." + (f" **{gfm(words)}**" if words else "")
    elif estimate.comparators:
        yield f"No score: too much is missing for {gfm(_either(s.name for s in fitting_scores(estimate)))}."
    elif estimate.task in TASKS and (reason := why_no_score(record, estimate.task)):
        yield gfm(reason)
    missing = missing_that_matters(estimate, record)
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


def _limits(assessments: Sequence[Assessment], record: PatientRecord) -> Iterator[str]:
    """What the estimates could not use: data the service did not get, notes a language model has yet to read."""
    absent = dict.fromkeys(_KINDS.get(name, f"{name} resources") for name in sorted(record.not_fetched))
    if absent:
        yield f"Not available to this service: {gfm(', '.join(absent), 120)}."
    yield from (f"{gfm(words, 120)}." for words in assessments[0].findings.unread_in_words(older=False))
    yield from _language_models(assessments)


def _language_models(assessments: Sequence[Assessment]) -> Iterator[str]:
    """Names a language model that takes part, and says what it has yet to read; its reasons are in the app."""
    findings = assessments[0].findings
    if findings.language_notes:
        name = findings.reader.rpartition("#")[2].rpartition("/")[2].removeprefix("language:")
        yield f"{counted(findings.language_notes, 'note')} read by the language model {gfm(name, 60)}."
    if findings.waiting:
        yield f"{counted(findings.waiting, 'note')} not read by the language model yet."
    for estimate in (a.estimate for a in assessments if a.estimate.voice is not None):
        voice = estimate.voice
        if voice is not None and (voice.waiting or voice.failed):
            yield gfm(voice.in_words(()), 200)
        elif voice is not None and estimate.reasons:
            name = voice.model.rpartition("#")[2].rpartition("/")[2]
            yield f"The language model {gfm(name, 60)} estimates from the notes too."


def _paper(assessments: Sequence[Assessment]) -> Iterator[str]:
    """The first paper about one of the drivers or problems and an outcome of which the card gives a risk."""
    for assessment in assessments:
        if not _gives_risk(assessment.estimate):
            continue
        for evidence in assessment.evidence:
            if evidence.factor and evidence.outcome:
                about = gfm(f"{evidence.factor} and {evidence.outcome}", 80)
                yield f"Evidence on {about}: [{gfm(evidence.citation or evidence.title, 120)}]({evidence.url})."


def _gives_risk(estimate: RiskEstimate) -> bool:
    score = leading_score(estimate)
    return estimate.probability is not None or (score is not None and comparable_risk(score) is not None)


def _either(names: Iterable[str]) -> str:
    """
    >>> _either(["NEWS2", "qSOFA"])
    'NEWS2 or qSOFA'
    """
    return " or ".join(names)
