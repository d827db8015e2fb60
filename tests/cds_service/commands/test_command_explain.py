"""`riskcards explain` as a program uses it: fixed keys, one line a patient, honest exit codes, progress aside."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cds_service import cli
from tests.end_to_end.golden import EXAMPLES

ICU = EXAMPLES / "sepsis-icu-first-day" / "bundle.json"
HOME = EXAMPLES / "diabetic-heart-failure-discharge" / "bundle.json"
WARD = EXAMPLES / "pneumonia-ward-abstains" / "bundle.json"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
PATIENT = next(
    entry["resource"]["id"]
    for entry in json.loads(ICU.read_text("utf-8"))["entry"]
    if entry["resource"]["resourceType"] == "Patient"
)
DEATH = ("--task", "in_hospital_mortality")
FIRST_DAY = ("--as-of", "2024-02-11T03:00:00Z")
KEYS = {
    "subject_id", "task", "prediction_time", "probability", "interval", "baseline", "abstention", "drivers", "scores",
    "agreement", "evidence", "cautions",
}  # fmt: skip
DRIVER_KEYS = {
    "concept", "label", "value", "unit", "contribution", "direction", "abnormal", "modifiable", "sources", "evidence",
}  # fmt: skip
PAPER_KEYS = {"pmid", "title", "first_author", "journal", "year", "design", "factor", "outcome", "path"}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Explain = Callable[..., Answer]


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Explain:
    """Runs `riskcards explain ...` through the console entry point, where exit codes are decided."""

    def run(*arguments: str | Path, command: str = "explain") -> Answer:
        monkeypatch.setattr(sys, "argv", ["riskcards", command, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        sys.stdout.flush()
        said = capfdbinary.readouterr()
        return Answer(int(left.value.code or 0), said.out.decode(), said.err.decode())

    return run


def test_one_patient_is_one_object_with_the_keys_of_design(explain: Explain) -> None:
    answer = explain(ICU, *DEATH, *FIRST_DAY)
    assert answer.code == 0, answer.err
    explained = json.loads(answer.out)
    assert explained.keys() >= KEYS
    assert explained["interval"][0] < explained["probability"] < explained["interval"][1]
    assert explained["abstention"] is None
    assert explained["agreement"] in {"agrees", "disagrees", "unknown"}
    assert {score["name"] for score in explained["scores"]} == {"SAPS II", "SOFA"}
    saps = next(score for score in explained["scores"] if score["name"] == "SAPS II")
    assert saps["points"][0] < saps["points"][1]
    assert saps["published_risk"][0] < saps["published_risk"][1]
    assert "bilirubin" in saps["missing"]
    papers = {paper["pmid"] for paper in explained["evidence"]}
    for driver in explained["drivers"]:
        assert driver.keys() >= DRIVER_KEYS
        assert driver["direction"] == ("raises" if driver["contribution"] > 0 else "lowers")
        assert driver["abnormal"] in {"low", "high", "normal", None}
        assert set(driver["evidence"]) <= papers
    for paper in explained["evidence"]:
        assert paper.keys() >= PAPER_KEYS
        assert paper["factor"]
        assert paper["outcome"]


def test_an_abstention_is_exit_4_and_names_the_time_that_works(explain: Explain) -> None:
    """A stay whose window has passed once gave a bare "no inpatient stay"."""
    for command in ("explain", "score"):
        late = explain(ICU, *DEATH, command=command)
        assert late.code == 4
        assert "--as-of " in late.err
        moment = late.err.rpartition("--as-of ")[2].strip()
        again = explain(ICU, *DEATH, "--as-of", moment, command=command)
        assert again.code == 0, again.err
    explained = json.loads(explain(WARD).out)
    assert explained["probability"] is None
    assert explained["abstention"]["reason"].startswith("No diabetes is recorded.")
    assert explained["drivers"] == []
    assert [score["name"] for score in explained["scores"]] == ["LACE", "HOSPITAL"]


def test_no_time_is_named_where_none_would_help(explain: Explain) -> None:
    assert "--as-of" not in explain(WARD).err


def test_a_folder_is_one_line_a_patient(explain: Explain, tmp_path: Path) -> None:
    folder = tmp_path / "charts"
    folder.mkdir()
    for name, chart in (("a", ICU), ("b", WARD)):
        shutil.copy(chart, folder / f"{name}.json")
    at = (*DEATH, *FIRST_DAY)
    answer = explain(folder, *at)
    assert answer.code == 0, answer.err
    lines = answer.lines()
    assert len(lines) == 2
    assert all(line.keys() >= KEYS for line in lines)
    assert "1 estimated, 1 abstained, 0 unreadable" in answer.err
    alone = json.loads(explain(ICU, *at).out)
    assert alone in lines
    out = tmp_path / "explained.ndjson"
    written = explain(folder, *at, "--out", out)
    assert written.out == ""
    assert [json.loads(line) for line in out.read_text("utf-8").splitlines()] == lines


def test_an_unreadable_patient_is_a_line_with_its_error_and_exit_3(explain: Explain, tmp_path: Path) -> None:
    shutil.copy(ICU, tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    answer = explain(tmp_path, *DEATH, *FIRST_DAY)
    assert answer.code == 3
    good, bad = answer.lines()
    assert good["probability"]
    assert bad.keys() == {"file", "task", "error"}
    assert bad["file"] == "b.json"


def test_a_folder_of_bundles_is_read_as_each_file_is(explain: Explain, tmp_path: Path) -> None:
    """A type that no file held once counted as not fetched; a ward without an id, or of another file, was lost."""
    at, folder = (*DEATH, *FIRST_DAY), tmp_path / "charts"
    folder.mkdir()
    expected = {}
    for name, kind in (("a", "ICU"), ("b", "HU")):
        chart = json.loads(ICU.read_text("utf-8"))
        chart["entry"] = [e for e in chart["entry"] if e["resource"]["resourceType"] not in {"Procedure", "Condition"}]
        ward: dict[str, Any] = {"resourceType": "Location", "type": [{"coding": [{"system": ROLES, "code": kind}]}]}
        chart["entry"].append({"fullUrl": "urn:uuid:3f0e9b1c-0000-4000-8000-000000000001", "resource": ward})
        text = json.dumps(chart).replace(PATIENT, f"{PATIENT}-{name}")
        chart = json.loads(text)
        for entry in chart["entry"]:
            if entry["resource"]["resourceType"] == "Encounter":
                place = {"reference": "urn:uuid:3f0e9b1c-0000-4000-8000-000000000001"}
                entry["resource"]["location"] = [{"location": place, "status": "active"}]
        (folder / f"{name}.json").write_text(json.dumps(chart), "utf-8")
        expected[f"{PATIENT}-{name}"] = json.loads(explain(folder / f"{name}.json", *at).out)
    orphan = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/lost"}}
    (folder / "c.ndjson").write_text(json.dumps({"resourceType": "Bundle", "entry": [{"resource": orphan}]}) + "\n")
    answer = explain(folder, *at)
    assert answer.code == 3
    *found, lost = answer.lines()
    assert {line["subject_id"]: line for line in found} == expected
    assert lost["subject_id"] == "lost"
    out = tmp_path / "risks.ndjson"
    assert explain(folder, *at, "--out", out, command="score").code == 3
    *scored, refused = (json.loads(line) for line in out.read_text("utf-8").splitlines())
    assert refused["issue"][0]["expression"] == ["Patient/lost"]
    assert len(scored) == 2
    mapped = explain(folder, *FIRST_DAY, command="map")
    for line in map(json.loads, mapped.out.splitlines()):
        name = line["subject_id"].rpartition("-")[2]
        alone = json.loads(explain(folder / f"{name}.json", *FIRST_DAY, "--json", command="map").out)
        assert line["features"] == alone["features"]
        assert line["unknown"] == alone["unknown"]


def test_an_export_is_one_line_a_patient_too(explain: Explain, tmp_path: Path) -> None:
    """Bulk Data: resources spread over files by type."""
    for entry in json.loads(ICU.read_text("utf-8"))["entry"]:
        with (tmp_path / f"{entry['resource']['resourceType']}.ndjson").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry["resource"]) + "\n")
    answer = explain(tmp_path, *DEATH, *FIRST_DAY)
    assert answer.code == 0, answer.err
    (line,) = answer.lines()
    assert line.keys() >= KEYS
    assert line["subject_id"] == "rosa"


def test_an_empty_folder_is_bad_input(explain: Explain, tmp_path: Path) -> None:
    answer = explain(tmp_path, *DEATH)
    assert answer.code == 3
    assert ".ndjson" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((HOME, "--task", "in_hospital_mortalty"), "the shipped models answer"),
        ((EXAMPLES, "--patient", "walter"), "a folder is explained alone"),
        ((EXAMPLES, HOME), "a folder is explained alone"),
        ((), "Missing argument"),
        ((HOME, "--as-of", "soon"), "is not a date"),
    ],
)
def test_wrong_use_is_exit_2(explain: Explain, arguments: tuple[Any, ...], said: str) -> None:
    answer = explain(*arguments)
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""


def test_bad_input_is_exit_3_and_nothing_is_written(explain: Explain, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    out = tmp_path / "out.json"
    answer = explain(bad, "--out", out)
    assert answer.code == 3
    assert str(bad) in answer.err
    assert not out.exists()
