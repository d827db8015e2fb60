"""`riskcards explain FOLDER`: one explanation a line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from artifact_store import PerProcess
from cds_service.commands.patients.folder_lines import PatientLine, line_settings
from cds_service.explanations.as_json import explanation
from fhir_mapping import SiteMap
from risk_model import Pipeline
from risk_model.cohorts import PatientData


@dataclass(frozen=True, slots=True)
class ExplanationLines:
    """An unreadable patient or file is a line with its "error"."""

    opened: PerProcess[tuple[Pipeline, str]]
    """The pipeline and the task to estimate."""
    as_of: datetime | None = None
    site_map: SiteMap | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return {"lines": "explain"} | line_settings(self.opened(), self.as_of, self.site_map)

    def line(self, patient: PatientData) -> PatientLine:
        pipeline, task = self.opened()
        record = patient.record(self.as_of, self.site_map)
        assessment = pipeline.assess(record, task)
        estimate = assessment.estimate
        abstained = "" if estimate.abstention is None else estimate.abstention.code
        return PatientLine(
            _line(explanation(assessment, pipeline, record)), abstained, estimate.prediction_time, estimate.probability
        )

    def refusal(self, place: str, reason: str) -> bytes:
        name = {"subject_id": place.removeprefix("Patient/")} if place.startswith("Patient/") else {"file": place}
        return _line({**name, "task": self.opened()[1], "error": reason})


def _line(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
