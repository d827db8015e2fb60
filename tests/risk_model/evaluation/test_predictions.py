"""Predictions as parquet, in the schema of meds-evaluation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from fhir_mapping.bulk import subject_number
from risk_model.evaluation.predictions import Prediction, write_predictions

parquet = pytest.importorskip("pyarrow.parquet")
AT = datetime(2024, 5, 1, 12, tzinfo=UTC)


def test_predictions_have_the_schema_in_order(tmp_path: Path) -> None:
    later = (AT + timedelta(hours=1)).astimezone(timezone(timedelta(hours=2)))
    found = [
        Prediction("p1", AT, 0.25, True),
        Prediction("17", later, 0.5, False),
        Prediction("17", AT, 0.125),
        Prediction("9" * 20, AT, 0.75),
    ]
    assert write_predictions(tmp_path / "p.parquet", found) == 4
    table = parquet.read_table(tmp_path / "p.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "subject_id": "int64", "prediction_time": "timestamp[us]", "boolean_value": "bool",
        "predicted_boolean_value": "bool", "predicted_boolean_probability": "double",
    }  # fmt: skip
    rows = {(row["subject_id"], row["prediction_time"]): row for row in table.to_pylist()}
    noon, one = AT.replace(tzinfo=None), AT.replace(tzinfo=None) + timedelta(hours=1)
    assert [row["subject_id"] for row in table.to_pylist()] == sorted(row["subject_id"] for row in table.to_pylist())
    assert {key: row["predicted_boolean_probability"] for key, row in rows.items()} == {
        (17, noon): 0.125, (17, one): 0.5, (subject_number("p1"), noon): 0.25, (subject_number("9" * 20), noon): 0.75,
    }  # fmt: skip
    assert rows[17, noon]["boolean_value"] is None
    assert rows[17, one]["boolean_value"] is False
