"""The risks in the ward list: the estimates of patient-view, without recording a card."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

import orjson

from cds_hooks import HookError
from cds_service.cards.scores import leading_score, points_words, score_words
from cds_service.cards.wording import outcome_name, percent
from cds_service.demo.requests import hook_request
from cds_service.demo.ward.patients import DemoPatient
from cds_service.hooks.hook_handler import HookHandler
from cds_service.services import SERVICES
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, Assessment, LevelPolicy, compare_with_score

SERVICE = SERVICES["hospital-risk"]
_SHORT = {IN_HOSPITAL_MORTALITY: "death", READMISSION_30D: "readmission"}


@dataclass(frozen=True, slots=True)
class WardRisk:
    """One task in the list: `words` is a percentage or a score's points, `warns` whether a card on it would warn.

    `place` sorts the list: 1 and the probability where there is an estimate, else the share of the score's points.
    """

    task: str
    label: str
    words: str
    says: str
    warns: bool
    place: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class WardRisks:
    """WardRisks(handler).of(patient) -> a WardRisk for each task; computed once, () without an inpatient stay."""

    def __init__(self, handler: HookHandler) -> None:
        self._handler = handler
        self._follows = LevelPolicy(handler.settings.level_follows)
        self._thresholds = handler.settings.thresholds_of(SERVICE.id, SERVICE.tasks)
        self._known: dict[str, tuple[WardRisk, ...]] = {}
        self._lock = Lock()

    def known(self, patient: DemoPatient) -> tuple[WardRisk, ...] | None:
        """Returns the cached risks, if any."""
        return self._known.get(patient.id)

    def of(self, patient: DemoPatient) -> tuple[WardRisk, ...]:
        # One at a time, so that the list does not slow down the first chart.
        with self._lock:
            if patient.id not in self._known:
                self._known[patient.id] = tuple(map(self._risk, self._assess(patient)))
            return self._known[patient.id]

    def _assess(self, patient: DemoPatient) -> tuple[Assessment, ...]:
        try:
            return self._handler.preview(SERVICE, orjson.dumps(hook_request(patient, SERVICE)))
        except HookError:
            # The error is shown when the chart is opened.
            return ()

    def _risk(self, assessment: Assessment) -> WardRisk:
        estimate, title = assessment.estimate, outcome_name(assessment.estimate.asked)
        label = _SHORT.get(estimate.task, title)
        if estimate.probability is not None:
            words = percent(estimate.probability)
            average = "" if estimate.baseline is None else f" (cohort average {percent(estimate.baseline)})"
            deciding = compare_with_score(estimate).deciding(self._follows, estimate.decisive)
            warns = deciding is not None and deciding >= self._thresholds[estimate.task]
            return WardRisk(estimate.task, label, words, f"{title} {words}{average}", warns, 1 + estimate.probability)
        why = estimate.abstention.reason if estimate.abstention else ""
        score = leading_score(estimate)
        if score is None:
            return WardRisk(estimate.task, label, "–", f"{title}: no estimate. {why}", False, -1.0)
        says = f"{title}: no estimate. {why} {score_words(score)}."
        return WardRisk(
            estimate.task, score.name, points_words(score), says, score.band == "high", score.low / score.maximum
        )
