"""The folder for Seismometer: its files agree with each other, and the real package opens it where it is installed.

`TEST_SEISMOMETER` names a folder with the package (`pip install --target FOLDER seismometer`): it needs older
libraries than riskcards does, so it cannot be installed beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from risk_model.evaluation.seismometer_export import ScoredRow, write_seismometer

parquet = pytest.importorskip("pyarrow.parquet")
START = datetime(2024, 5, 1, 12, tzinfo=UTC)
OPEN = """
import sys
sys.path.insert(0, sys.argv[1])
import seismometer
from seismometer.seismogram import Seismogram
seismometer.run_startup(config_path=sys.argv[2], output_path=sys.argv[3])
found = Seismogram()
frame = found.dataframe
print("OPENED", len(frame), found.output, found.target, int(frame[found.target].sum()), *sorted(found.cohort_cols))
"""


def rows() -> list[ScoredRow]:
    """Two predictions of one encounter with different labels among 120 others."""
    return [
        ScoredRow(
            f"p{n // 2}", f"e{n // 2}", START + timedelta(hours=n), n / 120, n % 3 == 0,
            ("women" if n % 4 < 2 else "men", "age 65-79" if n % 2 else "age 18-44"),
        )
        for n in range(120)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_seismometer(tmp_path, rows(), outcome="Death in hospital", model="m 1.0", title="Hospital death")
    return tmp_path


def test_tables_and_configuration_agree(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yml").read_text())["other_info"]
    usage = yaml.safe_load((folder / config["usage_config"]).read_text())["data_usage"]
    predictions = parquet.read_table(folder / config["data_dir"] / config["prediction_path"])
    events = parquet.read_table(folder / config["data_dir"] / config["event_path"])
    columns = set(predictions.column_names)
    assert {usage["entity_id"], usage["context_id"], usage["primary_output"], usage["predict_time"]} <= columns
    assert {cohort["source"] for cohort in usage["cohorts"]} == {"Sex", "Age group"} <= columns
    assert set(usage["event_table"].values()) <= set(events.column_names)
    assert set(events["Type"].to_pylist()) == {event["source"] for event in usage["events"]}
    assert usage["primary_target"] == usage["events"][0]["display_name"]
    assert events["Value"].to_pylist() == [float(row.label) for row in rows()]
    assert predictions["Score"].to_pylist() == [row.probability for row in rows()]
    dictionary = yaml.safe_load((folder / config["prediction_definition"]).read_text())
    assert {item["name"] for item in dictionary["predictions"]} == columns
    assert json.loads((folder / "data" / config["metadata_path"]).read_text())["modelname"] == "Hospital death (m 1.0)"


def test_a_subgroup_that_is_not_known_is_unknown(tmp_path: Path) -> None:
    some = [row._replace(cohorts=()) if n else row for n, row in enumerate(rows())]
    write_seismometer(tmp_path, some, outcome="Death", model="m", title="t", threshold=0.15)
    table = parquet.read_table(tmp_path / "data" / "predictions.parquet")
    assert table["Sex"].to_pylist()[:2] == ["female", "unknown"]
    assert json.loads((tmp_path / "data" / "metadata.json").read_text())["thresholds"] == [0.15]


def test_seismometer_opens_it(folder: Path) -> None:
    package = os.environ.get("TEST_SEISMOMETER")
    if not package:
        pytest.skip("TEST_SEISMOMETER names no folder with the package seismometer")
    # -S: the libraries of this environment are newer than Seismometer allows.
    ended = subprocess.run(
        [sys.executable, "-S", "-c", OPEN, package, str(folder), str(folder / "outputs")],
        capture_output=True, text=True, timeout=300, check=False, cwd=folder,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    said = ended.stdout.split("OPENED ")[-1]
    assert said.startswith("120 Score Death in hospital_Value 40 ")
    assert "Age group" in said
