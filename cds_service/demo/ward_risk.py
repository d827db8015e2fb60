"""The risks in the ward list: the estimates of patient-view, without recording a card."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

import orjson

from cds_hooks import HookError
from cds_service.cards.wording import percent
from cds_service.demo.requests import hook_request
from cds_service.demo.ward.patients import DemoPatient
from cds_service.hooks.hook_handler import HookHandler
from cds_service.protocol.services import SERVICES
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, TASKS, Assessment

SERVICE = SERVICES["hospital-risk"]
_SHORT = {IN_HOSPITAL_MORTALITY: "death", READMISSION_30D: "readmission"}


@dataclass(frozen=True, slots=True)
class WardRisk:
    """One task in the list: `words` is a percentage or a dash, `warns` whether a card on it would be a warning."""

    label: str
    words: str
    says: str
    warns: bool
    probability: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class WardRisks:
    """WardRisks(answering).of(patient) -> a WardRisk for each task; computed once, () without an inpatient stay."""

    def __init__(self, answering: HookHandler) -> None:
        self._answering = answering
        self._thresholds = answering.settings.thresholds_of(SERVICE.id, SERVICE.tasks)
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
            return self._answering.preview(SERVICE, orjson.dumps(hook_request(patient, SERVICE)))
        except HookError:
            # The error is shown when the chart is opened.
            return ()

    def _risk(self, assessment: Assessment) -> WardRisk:
        estimate, title = assessment.estimate, TASKS[assessment.estimate.task].title
        label = _SHORT.get(estimate.task, title)
        if estimate.probability is None:
            why = estimate.abstention.reason if estimate.abstention else ""
            return WardRisk(label, "–", f"{title}: no estimate. {why}", False, None)
        words = percent(estimate.probability)
        average = "" if estimate.baseline is None else f" (cohort average {percent(estimate.baseline)})"
        warns = estimate.probability >= self._thresholds[estimate.task]
        return WardRisk(label, words, f"{title} {words}{average}", warns, estimate.probability)
