"""The shipped example task `deterioration`: windows that leak nothing, and labels as an oracle finds them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from risk_model.cohorts.builder import CohortOptions, build_cohort
from risk_model.cohorts.fhir_source import FhirFolder
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.cohorts.splits import ByHash
from risk_model.labels.task_definitions import find_definition

DAY = timedelta(hours=24)
ICU = {"coding": [{"system": "http://snomed.info/sct", "code": "305351004"}]}


def built(lines: Iterable[dict[str, Any]], folder: Path, out: Path) -> LabelledCohort:
    folder.mkdir()
    for line in lines:
        with (folder / f"{line['resourceType']}.ndjson").open("ab") as stream:
            stream.write(orjson.dumps(line) + b"\n")
    with FhirFolder(folder, lambda _: None) as source:
        options = CohortOptions(ByHash(), follow_up="none")
        return build_cohort(find_definition("deterioration", None), source, out, options)


def stay(
    patient: str, start: str, end: str, *, icu: str | None = None, died: str | None = None
) -> list[dict[str, Any]]:
    subject = {"reference": f"Patient/{patient}"}
    common = {"resourceType": "Encounter", "status": "finished", "class": {"code": "IMP"}, "subject": subject}
    found: list[dict[str, Any]] = [
        {"resourceType": "Patient", "id": patient, "birthDate": "1950-01-01", "gender": "female"}
        | ({"deceasedDateTime": died} if died else {}),
        {**common, "id": f"{patient}-stay", "period": {"start": start, "end": end}},
    ]
    if icu:
        part = {"reference": f"Encounter/{patient}-stay"}
        period = {"start": icu, "end": end}
        found.append({**common, "id": f"{patient}-icu", "period": period, "partOf": part, "type": [ICU]})
    return found


ADMITTED = "2024-05-01T08:00:00Z"
LEFT = "2024-05-06T08:00:00Z"
CASES = {
    "home": (stay("home", ADMITTED, LEFT), [0, 0, 0, 0]),
    # 60 hours after admission: positive at 48 h, negative at 24 h, excluded from 72 h on
    "transfer": (stay("transfer", ADMITTED, LEFT, icu="2024-05-03T20:00:00Z"), [0, 1]),
    "direct": (stay("direct", ADMITTED, LEFT, icu="2024-05-01T09:00:00Z"), []),
    "death": (stay("death", ADMITTED, "2024-05-04T02:00:00Z", died="2024-05-04T02:00:00Z"), [0, 1]),
    "short": (stay("short", ADMITTED, "2024-05-01T20:00:00Z"), []),
}


def test_labels_of_ward_stays(tmp_path: Path) -> None:
    cohort = built([line for lines, _ in CASES.values() for line in lines], tmp_path / "export", tmp_path / "cohort")
    found: dict[str, list[int]] = {name: [] for name in CASES}
    for row in sorted(cohort.rows, key=lambda row: row.prediction_time):
        found[row.subject_id].append(row.label)
    assert found == {name: labels for name, (_, labels) in CASES.items()}


def test_nothing_after_the_prediction_is_an_input(tmp_path: Path) -> None:
    """The same stay with and without its transfer has the same inputs before it."""
    one = built([*CASES["transfer"][0], *stay("x", ADMITTED, LEFT)], tmp_path / "one", tmp_path / "cohort-one")
    calm = [*stay("transfer", ADMITTED, LEFT), *stay("x", ADMITTED, LEFT, icu="2024-05-04T20:00:00Z")]
    other = built(calm, tmp_path / "other", tmp_path / "cohort-other")
    inputs = {
        name: {row.prediction_time: record.features().to_json() for row, record in cohort.records()
               if row.subject_id == "transfer"}
        for name, cohort in (("one", one), ("other", other))
    }  # fmt: skip
    assert len(inputs["one"]) == 2
    assert {time: inputs["other"][time] for time in inputs["one"]} == inputs["one"]


@pytest.mark.shared_data
def test_the_mimic_demo_has_rows_of_both_outcomes(shared_data: Path, tmp_path: Path) -> None:
    """Thirty of its patients, against intensive care stays and deaths read from the files directly."""
    files = {name: list(read(shared_data / "mimic-iv-demo-fhir" / f"Mimic{name}.ndjson.gz"))
             for name in ("Patient", "Encounter", "EncounterICU")}  # fmt: skip
    chosen = {line["id"] for line in sorted(files["Patient"], key=lambda line: line["id"])[:30]}
    lines = [line for listed in files.values() for line in listed if owner(line) in chosen]
    cohort = built(lines, tmp_path / "export", tmp_path / "cohort")
    moves = [(owner(line), at(line["period"]["start"])) for line in files["EncounterICU"]]
    deaths = {line["id"]: line["deceasedDateTime"][:10] for line in files["Patient"] if "deceasedDateTime" in line}
    labels = [row.label for row in cohort.rows]
    assert labels.count(1) >= 3
    assert labels.count(0) >= 10
    for row in cohort.rows:
        after = [start for subject, start in moves if subject == row.subject_id and start > row.prediction_time]
        moved = any(start <= row.prediction_time + DAY for start in after)
        dying = deaths.get(row.subject_id, "") and deaths[row.subject_id] <= f"{row.prediction_time + DAY:%Y-%m-%d}"
        assert row.label == int(moved or bool(dying)), row


def read(path: Path) -> Iterable[dict[str, Any]]:
    with gzip.open(path) as stream:
        yield from map(orjson.loads, stream)


def owner(line: dict[str, Any]) -> str:
    return line["id"] if line["resourceType"] == "Patient" else line["subject"]["reference"].partition("/")[2]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)
