"""`riskcards score FOLDER`: one RiskAssessment a line, the same as the service gives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from artifact_store import PerProcess
from cds_service.commands.patients.folder_lines import PatientLine, line_settings
from fhir_mapping import SiteMap
from risk_model import Pipeline, risk_assessment
from risk_model.cohorts import PatientData


@dataclass(frozen=True, slots=True)
class RiskAssessmentLines:
    """An abstention is a RiskAssessment with its reason, an unreadable patient an OperationOutcome."""

    opened: PerProcess[tuple[Pipeline, str]]
    """The pipeline and the task to estimate."""
    as_of: datetime | None = None
    site_map: SiteMap | None = None
    note_reader: str = "rules"

    @property
    def settings(self) -> dict[str, Any]:
        return {"lines": "score", "reader": self.note_reader} | line_settings(self.opened(), self.as_of, self.site_map)

    def line(self, patient: PatientData) -> PatientLine:
        record = patient.record(self.as_of, self.site_map)
        pipeline, task = self.opened()
        assessment = pipeline.assess(record, task)
        estimate = assessment.estimate
        abstained = "" if estimate.abstention is None else estimate.abstention.code
        return PatientLine(_line(risk_assessment(assessment)), abstained, record.prediction_time, estimate.probability)

    def refusal(self, place: str, reason: str) -> bytes:
        issue = {"severity": "error", "code": "invalid", "diagnostics": reason, "expression": [place]}
        return _line({"resourceType": "OperationOutcome", "issue": [issue]})


def _line(resource: dict[str, object]) -> bytes:
    return orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE)
