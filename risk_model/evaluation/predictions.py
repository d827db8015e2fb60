"""Writes predictions as parquet in the schema of meds-evaluation (https://github.com/kamilest/meds-evaluation).

One row a prediction: `subject_id` (int64), `prediction_time` (UTC, no zone), `boolean_value` (the label, null where
there is none), `predicted_boolean_value` (null: riskcards decides at no threshold) and `predicted_boolean_probability`.
A FHIR patient id that is no integer becomes the id it has in our MEDS export. Needs the extra `[meds]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fhir_mapping.bulk import subject_number
from risk_model.core.errors import TrainingError

FILE = "predictions.parquet"
_LARGEST = 2**63


class Prediction(NamedTuple):
    """One prediction; `label` None where the outcome is not known."""

    subject_id: str
    prediction_time: datetime
    probability: float
    label: bool | None = None


def parquet_available() -> bool:
    """Whether the extra that writes parquet is installed."""
    try:
        import pyarrow.parquet  # noqa: F401 - asked whether it is there
    except ImportError:
        return False
    return True


def write_predictions(path: Path, found: Iterable[Prediction]) -> int:
    """Writes the file; returns the number of rows. Raises TrainingError without the extra."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise TrainingError("parquet needs the extra [meds]: pip install 'riskcards[meds]'") from None
    rows = sorted(found, key=lambda row: (_number(row.subject_id), row.prediction_time))
    columns: dict[str, Any] = {
        "subject_id": pa.array([_number(row.subject_id) for row in rows], pa.int64()),
        "prediction_time": pa.array(
            [row.prediction_time.astimezone(UTC).replace(tzinfo=None) for row in rows], pa.timestamp("us")
        ),
        "boolean_value": pa.array([row.label for row in rows], pa.bool_()),
        "predicted_boolean_value": pa.array([None] * len(rows), pa.bool_()),
        "predicted_boolean_probability": pa.array([row.probability for row in rows], pa.float64()),
    }
    parquet.write_table(pa.table(columns), path)
    return len(rows)


def _number(subject: str) -> int:
    return (
        int(subject) if subject.isascii() and subject.isdigit() and int(subject) < _LARGEST else subject_number(subject)
    )
