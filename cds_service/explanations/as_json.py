"""What card and app say of one estimate, as JSON values for programs (`riskcards explain`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cds_service.cards.scores import fitting_scores
from fhir_mapping import PatientRecord
from knowledge_index import Evidence
from risk_model import Assessment, Driver, Pipeline, ScoreResult, compare_with_score, why_no_score

MAX_PAPERS = 2
"""Papers a driver."""


def explanation(assessment: Assessment, pipeline: Pipeline, record: PatientRecord) -> dict[str, Any]:
    """Returns the explanation of one estimate; probabilities from 0 to 1, contributions in log-odds, times ISO 8601.

    `evidence` holds every paper once: those about the patient's problems, then those about each driver.
    """
    estimate = assessment.estimate
    papers = {item.pmid: item for item in assessment.evidence}
    drivers = []
    for driver in estimate.drivers:
        about = pipeline.evidence_on(driver.concept, estimate.task, assessment.factors)[:MAX_PAPERS]
        for item in about:
            papers.setdefault(item.pmid, item)
        drivers.append(_driver(driver, about))
    abstention = estimate.abstention
    return {
        "subject_id": estimate.subject_id,
        "task": estimate.task,
        "prediction_time": estimate.prediction_time.isoformat(),
        "probability": estimate.probability,
        "interval": None if estimate.interval is None else list(estimate.interval),
        "baseline": estimate.baseline,
        "abstention": None if abstention is None else {"code": abstention.code, "reason": abstention.reason},
        "drivers": drivers,
        "scores": [_score(score) for score in fitting_scores(estimate)],
        "no_score": None if estimate.comparators else why_no_score(record, estimate.task),
        "agreement": str(compare_with_score(estimate).agreement),
        "evidence": [_paper(item) for item in papers.values()],
        "cautions": list(estimate.cautions),
        "missing": [{"name": gap.name, "reason": gap.reason} for gap in estimate.gaps],
        "model": {"id": estimate.model_id, "version": estimate.model_version},
    }


def _driver(driver: Driver, papers: Iterable[Evidence]) -> dict[str, Any]:
    return {
        "concept": driver.concept,
        "label": driver.label,
        "value": driver.value if driver.number is None else driver.number,
        "unit": driver.unit,
        "text": driver.value,
        "contribution": driver.contribution,
        "direction": driver.direction,
        "abnormal": None if driver.abnormal is None else str(driver.abnormal),
        "modifiable": driver.modifiable,
        "sources": list(driver.sources),
        "evidence": [item.pmid for item in papers],
    }


def _score(score: ScoreResult) -> dict[str, Any]:
    return {
        "name": score.name,
        "points": [score.low, score.high],
        "maximum": score.maximum,
        "band": score.band,
        "published_risk": None if score.published_risk is None else list(score.published_risk),
        "published_outcome": score.published_outcome or None,
        "missing": list(score.missing),
        "source": score.source,
    }


def _paper(item: Evidence) -> dict[str, Any]:
    return {
        "pmid": item.pmid,
        "title": item.title,
        "first_author": item.first_author,
        "journal": item.journal,
        "year": item.year,
        "design": item.study_type,
        "factor": item.factor,
        "outcome": item.outcome,
        "path": [{"source": s.source, "relation": s.relation, "target": s.target} for s in item.path],
        "url": item.url,
    }
