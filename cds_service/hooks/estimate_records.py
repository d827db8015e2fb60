"""Stored estimates, from which a card can be replayed: the model, the exact inputs, the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

from risk_model import RiskEstimate, RiskModel


def estimate_record(estimate: RiskEstimate, model: RiskModel) -> dict[str, Any]:
    """The estimate as plain JSON; numbers survive a round trip exactly, unknown inputs are null."""
    return {
        "task": estimate.task,
        "probability": estimate.probability,
        **({} if estimate.anchor is None else {"anchor": estimate.anchor}),
        "abstention": estimate.abstention.code if estimate.abstention else None,
        "model_id": estimate.model_id,
        "model_version": estimate.model_version,
        "model_sha256": model.fingerprint,
        "prediction_time": estimate.prediction_time.isoformat(),
        "inputs": [None if isnan(value) else value for value in estimate.inputs],
        "drivers": {driver.concept: round(driver.contribution, 6) for driver in estimate.drivers},
    }


@dataclass(frozen=True, slots=True)
class Replay:
    """One estimate computed again; `same` is whether both probabilities are bit for bit equal."""

    task: str
    recorded: float | None
    replayed: float | None
    note: str

    @property
    def same(self) -> bool:
        return not self.note and self.recorded == self.replayed


def replay(kept: Mapping[str, Any], model: RiskModel) -> Replay:
    """The recorded inputs through the model again; if it is not the recorded model, only a note that says so."""
    task, recorded = str(kept["task"]), kept["probability"]
    if kept["abstention"] is not None:
        return Replay(task, None, None, "")
    if kept["model_sha256"] != model.fingerprint:
        asked = f"{kept['model_id']} {kept['model_version']}"
        return Replay(task, recorded, None, f"made by {asked} (sha256 {kept['model_sha256'][:12]}…), not by this model")
    row = tuple(float("nan") if value is None else float(value) for value in kept["inputs"])
    return Replay(task, recorded, model.replay(row, language="anchor" in kept), "")
