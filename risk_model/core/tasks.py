"""The prediction tasks. Each names its label definition, because published figures depend on it.

`TASKS` are those of the service. A model trained for another task file has its question in its manifest.
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
    """A prediction task: its outcome in words, and the definition of its label.

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
        """Raises KeyError or TypeError if `raw` is invalid."""
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
    """Returns the task of a model by its manifest. Raises UnknownTaskError if neither the manifest nor the service
    defines it."""
    raw = manifest.get("question")
    return task_of(str(manifest["task"])) if raw is None else Task.from_json(raw)


def task_of(name: str) -> Task:
    """Returns the task with this id. Raises UnknownTaskError with the known ids."""
    if name not in TASKS:
        raise UnknownTaskError(name, tuple(TASKS))
    return TASKS[name]
