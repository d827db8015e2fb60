"""One card for one stay (CDS Hooks 3.0, "Card Attributes"): summary, detail, suggestions, override reasons, links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from cds_hooks import MAX_SUMMARY, Action, Card, CardCoding, Link, Source, Suggestion
from cds_hooks.cards import new_uuid
from cds_service.cards.detail import detail
from cds_service.cards.drafts import BUILT_IN, URGENT_REVIEW, DraftContext, Drafts
from cds_service.cards.escape import plain
from cds_service.cards.save_offer import save_offer
from cds_service.cards.scores import disagreement, fitting_scores, leading_score, score_words
from cds_service.cards.wording import outcome_name, percent
from fhir_mapping import PatientRecord
from risk_model import TASKS, Assessment, LevelPolicy, RiskEstimate, compare_with_score

REASONS_SYSTEM = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"
# The code system's own displays are sentences about "PC CDS"; these are what a clinician would say.
_REASONS = (
    ("action-completed", "Already done"),
    ("action-not-priority", "Not a priority for this patient now"),
    ("wrong-time-workflow", "Not the right moment"),
    ("inappropriate-recipient", "Not my patient or not my role"),
    ("recipient-does-not-trust", "I do not agree with this estimate"),
    ("patient-refuses", "The patient declines"),
)
_OVERRIDE_REASONS = tuple(CardCoding(code, REASONS_SYSTEM, display) for code, display in _REASONS)
OVERRIDE_CODES = frozenset(code for code, _ in _REASONS)
_ALARMING = frozenset({"high"})
# The score that warns whatever the model estimates: a NEWS2 of 7 calls for an urgent review.
_WARNS_ALONE = "NEWS2"

# Abstention codes for patients in whom a high score is expected: a warning would add nothing.
NEVER_WARNS = frozenset({"deceased", "died-or-hospice", "hospice"})


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Risk thresholds by task: at or above one the card is a warning, below it is info. No card is ever `critical`.

    `follows` decides which reading counts where an estimate and the best-fitting score disagree.
    """

    by_task: Mapping[str, float]
    follows: LevelPolicy = LevelPolicy.CAUTIOUS


def build_card(
    assessments: Sequence[Assessment],
    record: PatientRecord,
    *,
    public_url: str,
    thresholds: Thresholds,
    drafts: Drafts = BUILT_IN,
    save_at: datetime | None = None,
    launches_app: bool = False,
    zone: tzinfo = UTC,
) -> Card:
    """Returns one card for all tasks; the task of the highest rank comes first, and its suggestion is offered.

    `save_at` (now) adds the suggestion to save the estimates; `launches_app` adds the link to the SMART app; `zone` is
    the hospital's, in which a day ends.
    """
    ordered = sorted(assessments, key=lambda a: _rank(a.estimate, thresholds), reverse=True)
    leading, base, identifier = ordered[0].estimate, public_url.rstrip("/"), new_uuid()
    suggestions = _suggestions(leading, DraftContext.of(record, zone), thresholds, drafts)
    offer = None if save_at is None else save_offer(ordered, identifier, public_url, save_at)
    if offer is not None:
        suggestions.append(offer)
    return Card(
        uuid=identifier,
        summary=_summary([assessment.estimate for assessment in ordered]),
        detail=detail(ordered, record),
        indicator="warning" if _rank(leading, thresholds) >= 2 else "info",
        source=Source(
            "riskcards",
            _model_card(leading.task, base),
            topic=CardCoding(leading.task.replace("_", "-"), f"{base}/topics", TASKS[leading.task].title),
        ),
        override_reasons=_OVERRIDE_REASONS,
        links=_links(ordered, identifier, base, launches_app),
        suggestions=tuple(suggestions),
        selection_behavior="any" if suggestions else None,
    )


def _links(ordered: Sequence[Assessment], card: str, base: str, launches_app: bool) -> tuple[Link, ...]:
    """The SMART app link (its appContext is the card's id, which only our store resolves), then the model cards."""
    tasks = [assessment.estimate.task for assessment in ordered]
    models = [Link(f"Model card: {outcome_name(TASKS[task])}", _model_card(task, base)) for task in tasks]
    app = [Link("Explain this estimate", f"{base}/launch", "smart", card)] if launches_app else []
    return (*app, *models)


def _model_card(task: str, base: str) -> str:
    return f"{base}/model-cards/{task}?format=html"


def _rank(estimate: RiskEstimate, thresholds: Thresholds) -> float:
    """The rank of a task; 2 and above warns: risk over the threshold, or a high leading score if the model abstains."""
    if estimate.abstention is not None and estimate.abstention.code in NEVER_WARNS:
        return 0.0
    if estimate.probability is not None:
        risk = compare_with_score(estimate).deciding(thresholds.follows, estimate.decisive)
        over = risk is not None and risk >= thresholds.by_task[estimate.task]
        return (2 if over or _urgent(estimate) else 1) + estimate.probability
    score = leading_score(estimate)
    return 2.0 if score is not None and score.band in _ALARMING else 0.5 if score is not None else 0.0


def _urgent(estimate: RiskEstimate) -> bool:
    return any(score.name == _WARNS_ALONE and score.band in _ALARMING for score in fitting_scores(estimate))


def _summary(estimates: Sequence[RiskEstimate]) -> str:
    """The summary in plain text, under 140 characters; only the leading task where both do not fit."""
    text = "; ".join(_short(estimate) for estimate in estimates)
    return plain(text if len(text) <= MAX_SUMMARY else _short(estimates[0]), MAX_SUMMARY)


def _short(estimate: RiskEstimate) -> str:
    name = outcome_name(estimate.asked)
    if estimate.probability is not None and estimate.baseline is not None:
        differs = ", scores disagree" if disagreement(estimate) else ""
        return f"{name} {percent(estimate.probability)} (cohort average {percent(estimate.baseline)}{differs})"
    score = leading_score(estimate)
    return f"{name}: no estimate" + ("" if score is None else f"; {score_words(score)}")


def _suggestions(
    estimate: RiskEstimate, place: DraftContext, thresholds: Thresholds, drafts: Drafts
) -> list[Suggestion]:
    """Drafts a clinician may accept when the risk is over the threshold: one, unless the site lists more."""
    if _rank(estimate, thresholds) < 2:
        return []
    offered = drafts[estimate.task]
    if offered is BUILT_IN[estimate.task] and _urgent(estimate):
        offered = (URGENT_REVIEW,)
    return [Suggestion(draft.label, (Action.create(draft.label, draft.resource(place)),)) for draft in offered]
