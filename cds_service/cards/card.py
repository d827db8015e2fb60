"""One card for one stay (CDS Hooks 3.0, "Card Attributes"): summary, detail, suggestions, override reasons, links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cds_hooks import MAX_SUMMARY, Action, Card, CardCoding, Link, Source, Suggestion
from cds_hooks.cards import new_uuid
from cds_service.cards.detail import detail, percent
from cds_service.cards.drafts import BUILT_IN, DraftContext, Drafts
from cds_service.cards.escape import plain
from cds_service.cards.save_offer import save_offer
from fhir_mapping import PatientRecord
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, TASKS, Assessment, RiskEstimate, ScoreResult

REASONS_SYSTEM = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"
_REASONS = (
    ("action-completed", "Recommended action was already completed"),
    ("action-not-priority", "Recommended action is not relevant or a priority in current state of health"),
    ("wrong-time-workflow", "PC CDS delivered at wrong time in workflow or patient lifecycle"),
    ("inappropriate-recipient", "PC CDS delivered to inappropriate recipient/role"),
    ("recipient-does-not-trust", "Recipient does not agree with or trust the recommended action"),
    ("patient-refuses", "Patient refuses/declines (no context given)*"),
)
_OVERRIDE_REASONS = tuple(CardCoding(code, REASONS_SYSTEM, display) for code, display in _REASONS)
OVERRIDE_CODES = frozenset(code for code, _ in _REASONS)
# Scores in the order they lead when the model abstains.
_LEADING = {READMISSION_30D: ("LACE", "HOSPITAL"), IN_HOSPITAL_MORTALITY: ("NEWS2", "qSOFA")}
_ALARMING = frozenset({"high"})
# Scores that warn whatever the model estimates: a NEWS2 of 7 calls for urgent assessment.
_WARNS_ALONE = frozenset({"NEWS2"})

# Abstention codes for patients in whom a high score is expected: a warning would add nothing.
NEVER_WARNS = frozenset({"deceased", "died-or-hospice", "hospice"})


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Risk thresholds by task: at or above one the card is a warning, below it is info. No card is ever `critical`."""

    by_task: Mapping[str, float]


def build_card(
    assessments: Sequence[Assessment],
    record: PatientRecord,
    *,
    public_url: str,
    thresholds: Thresholds,
    drafts: Drafts = BUILT_IN,
    save_at: datetime | None = None,
    launches_app: bool = False,
) -> dict[str, Any]:
    """Returns one card for all tasks; the task of the highest rank comes first.

    `save_at` (now) adds the suggestion to save the estimates; `launches_app` adds the link to the SMART app.
    """
    ordered = sorted(assessments, key=lambda a: _rank(a.estimate, thresholds), reverse=True)
    leading, base, identifier = ordered[0].estimate, public_url.rstrip("/"), new_uuid()
    place = DraftContext.of(record)
    suggestions = [s for a in ordered for s in _suggestions(a.estimate, place, thresholds, drafts)]
    offer = None if save_at is None else save_offer(ordered, identifier, public_url, save_at)
    if offer is not None:
        suggestions.append(offer)
    card = Card(
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
    return card.to_json()


def _links(ordered: Sequence[Assessment], card: str, base: str, launches_app: bool) -> tuple[Link, ...]:
    """The SMART app link (its appContext is the card's id, which only our store resolves), then the model cards."""
    tasks = [assessment.estimate.task for assessment in ordered]
    models = [Link(f"Model card: {TASKS[task].title}", _model_card(task, base)) for task in tasks]
    app = [Link("Explain this estimate", f"{base}/launch", "smart", card)] if launches_app else []
    return (*app, *models)


def _model_card(task: str, base: str) -> str:
    return f"{base}/model-cards/{task}?format=html"


def _rank(estimate: RiskEstimate, thresholds: Thresholds) -> float:
    """The rank of a task; 2 and above warns: risk over the threshold, or a high leading score if the model abstains."""
    if estimate.abstention is not None and estimate.abstention.code in NEVER_WARNS:
        return 0.0
    threshold = thresholds.by_task[estimate.task]
    score_warns = any(score.name in _WARNS_ALONE and score.band in _ALARMING for score in estimate.comparators)
    if estimate.probability is not None:
        over = estimate.decisive is not None and estimate.decisive >= threshold
        return (2 if score_warns or over else 1) + estimate.probability
    score = _leading_score(estimate)
    return 2.0 if score is not None and score.band in _ALARMING else 0.5 if score is not None else 0.0


def _leading_score(estimate: RiskEstimate) -> ScoreResult | None:
    by_name = {score.name: score for score in estimate.comparators}
    options = [by_name[name] for name in _LEADING[estimate.task] if name in by_name]
    # A range of points that spans bands gives no risk level and may not lead.
    complete = [score for score in options if score.complete]
    banded = [score for score in options if score.band is not None]
    return next(iter(complete or banded), None)


def _summary(estimates: Sequence[RiskEstimate]) -> str:
    """The summary in plain text, under 140 characters; only the leading task where both do not fit."""
    text = "; ".join(_short(estimate) for estimate in estimates)
    return plain(text if len(text) <= MAX_SUMMARY else _short(estimates[0]), MAX_SUMMARY)


def _short(estimate: RiskEstimate) -> str:
    title = TASKS[estimate.task].title
    if estimate.probability is not None and estimate.baseline is not None:
        return f"{title} {percent(estimate.probability)} (cohort average {percent(estimate.baseline)})"
    score = _leading_score(estimate)
    if score is None:
        return f"{title}: no estimate"
    risk = f", published risk {percent(score.expected_risk)}" if score.expected_risk is not None else ""
    band = f", {score.band}" if score.band and not risk else ""
    return f"{title}: model abstains; {score.name} {score.in_words()}{band}{risk}"


def _suggestions(
    estimate: RiskEstimate, place: DraftContext, thresholds: Thresholds, drafts: Drafts
) -> list[Suggestion]:
    """Drafts a clinician may accept when the risk is over the threshold."""
    if _rank(estimate, thresholds) < 2:
        return []
    return [
        Suggestion(draft.label, (Action.create(draft.label, draft.resource(place)),)) for draft in drafts[estimate.task]
    ]
