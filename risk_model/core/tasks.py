"""The questions we answer. A task always says which label definition it means: published figures differ there.

`TASKS` are those of the service. A model trained for any other task file carries its own question in its manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from risk_model.core.errors import UnknownTaskError

IN_HOSPITAL_MORTALITY = "in_hospital_mortality"
READMISSION_30D = "readmission_30d"


@dataclass(frozen=True, slots=True)
class Task:
    """One question, its outcome in words, and how its label is defined.

    in_hospital_mortality (label `in-hospital-death`)::

        admission ----------- prediction (24 h, at most 48 h) ------------------- discharge
                   features <-|                               |-> died before discharge?

    readmission_30d (label `any-inpatient-30d`: any inpatient stay begun within 30 days of discharge)::

        admission ---------------------- discharge = prediction ---- 30 days ----|
                   features <----------------------------------|-> admitted again?
    """

    id: str
    title: str
    outcome: str
    label: str
    horizon: str
    snomed: tuple[str, str] | None = None
    """SNOMED CT code and display of the outcome, for FHIR RiskAssessment.prediction.outcome."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Task:
        """Raises KeyError or TypeError when `raw` is none of ours."""
        code = raw.get("snomed")
        return cls(**{**raw, "snomed": None if code is None else (str(code[0]), str(code[1]))})


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        IN_HOSPITAL_MORTALITY: Task(
            id=IN_HOSPITAL_MORTALITY,
            title="In-hospital mortality",
            outcome="dying before leaving hospital",
            label="in-hospital-death",
            horizon="until the end of this stay",
            snomed=("419099009", "Dead"),
        ),
        READMISSION_30D: Task(
            id=READMISSION_30D,
            title="30-day readmission",
            outcome="being admitted again within 30 days of discharge",
            label="any-inpatient-30d",
            horizon="30 days after discharge",
            snomed=("417005", "Hospital re-admission"),
        ),
    }
)


def question_of(manifest: Mapping[str, Any]) -> Task:
    """What a model answers, by its manifest. Raises UnknownTaskError where neither it nor the service says."""
    raw = manifest.get("question")
    return task_of(str(manifest["task"])) if raw is None else Task.from_json(raw)


def task_of(name: str) -> Task:
    """The task with this id. Raises UnknownTaskError naming those there are."""
    if name not in TASKS:
        raise UnknownTaskError(name, tuple(TASKS))
    return TASKS[name]
