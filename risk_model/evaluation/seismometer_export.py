"""Writes an evaluation as a folder that Seismometer opens (https://github.com/epic-open-source/seismometer, 0.5).

    seismometer/config.yml           names the other files
    seismometer/usage_config.yml     columns, cohorts, the outcome
    seismometer/dictionary.yml       what columns and events mean
    seismometer/data/predictions.parquet, events.parquet, metadata.json

One row a prediction with its score and cohorts, one event a prediction with the outcome as 0 or 1. The event has the
prediction's own time, since Seismometer takes the first event at or after it: the label's horizon is the task's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from artifact_store import write_json
from risk_model.core.errors import TrainingError

FOLDER = "seismometer"
THRESHOLDS = (0.2, 0.1)
_COHORTS = {"women": ("Sex", "female"), "men": ("Sex", "male")}
_PREFIXES = {"age ": "Age group", "recorded race: ": "Recorded race"}
_UNKNOWN = "unknown"


class ScoredRow(NamedTuple):
    """One answered prediction; `cohorts` are names of subgroups it belongs to."""

    subject_id: str
    encounter_id: str
    prediction_time: datetime
    probability: float
    label: bool
    cohorts: tuple[str, ...]


def write_seismometer(
    out: Path, rows: Sequence[ScoredRow], *, outcome: str, model: str, title: str, threshold: float | None = None
) -> None:
    """Writes the folder's files into `out`, which exists. Raises TrainingError without the extra [meds]."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise TrainingError("Seismometer's files need the extra [meds]: pip install 'riskcards[meds]'") from None
    data = out / "data"
    data.mkdir()
    cohorts = [_cohorts(row.cohorts) for row in rows]
    names = sorted({name for found in cohorts for name in found})
    keys = {
        "patient_id": pa.array([row.subject_id for row in rows], pa.string()),
        "encounter_id": pa.array([row.encounter_id for row in rows], pa.string()),
    }
    times = pa.array([row.prediction_time.astimezone(UTC).replace(tzinfo=None) for row in rows], pa.timestamp("ns"))
    columns: dict[str, Any] = {"ScoringTime": times, "Score": pa.array([row.probability for row in rows], pa.float64())}
    columns |= {name: pa.array([found.get(name, _UNKNOWN) for found in cohorts], pa.string()) for name in names}
    parquet.write_table(pa.table(keys | columns), data / "predictions.parquet")
    events = {
        "Type": pa.array(["Outcome"] * len(rows), pa.string()),
        "EventTime": times,
        "Value": pa.array([float(row.label) for row in rows], pa.float64()),
    }
    parquet.write_table(pa.table(keys | events), data / "events.parquet")
    thresholds = list(THRESHOLDS) if threshold is None else [threshold]
    write_json(data / "metadata.json", {"modelname": f"{title} ({model})", "thresholds": thresholds})
    _write(out / "config.yml", _config())
    _write(out / "usage_config.yml", _usage(names, outcome))
    _write(out / "dictionary.yml", _dictionary(names, outcome))


def _cohorts(subgroups: Sequence[str]) -> dict[str, str]:
    """Column -> value of the subgroups of one row."""
    found = {}
    for name in subgroups:
        if name in _COHORTS:
            column, value = _COHORTS[name]
            found[column] = value
        for prefix, column in _PREFIXES.items():
            if name.startswith(prefix):
                found[column] = name.removeprefix(prefix)
    return found


def _config() -> dict[str, Any]:
    return {
        "other_info": {
            "template": "binary",
            "info_dir": "outputs",
            "usage_config": "usage_config.yml",
            "event_definition": "dictionary.yml",
            "prediction_definition": "dictionary.yml",
            "data_dir": "data",
            "prediction_path": "predictions.parquet",
            "event_path": "events.parquet",
            "metadata_path": "metadata.json",
        }
    }


def _usage(cohorts: Sequence[str], outcome: str) -> dict[str, Any]:
    return {
        "data_usage": {
            "entity_id": "patient_id",
            "context_id": "encounter_id",
            "primary_output": "Score",
            "primary_target": outcome,
            "predict_time": "ScoringTime",
            "outputs": ["Score"],
            "cohorts": [{"source": name} for name in cohorts],
            "features": [],
            "event_table": {"type": "Type", "time": "EventTime", "value": "Value"},
            "events": [{"source": "Outcome", "display_name": outcome, "usage": "target", "merge_strategy": "forward"}],
            "censor_min_count": 10,
        }
    }


def _dictionary(cohorts: Sequence[str], outcome: str) -> dict[str, Any]:
    def item(name: str, dtype: str, definition: str) -> dict[str, str]:
        return {"name": name, "dtype": dtype, "definition": definition}

    return {
        "predictions": [
            item("patient_id", "object", "Patient"),
            item("encounter_id", "object", "Encounter"),
            item("ScoringTime", "datetime64[ns]", "Prediction time, UTC"),
            item("Score", "float", "Probability of the outcome"),
            *(item(name, "category", "As recorded by the prediction time") for name in cohorts),
        ],
        "events": [item("Outcome", "float", f"{outcome}: 1 if it occurred within the task's horizon, else 0")],
    }


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True), "utf-8")
