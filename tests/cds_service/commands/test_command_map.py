"""`riskcards map` as users run it: files, folders, datasets, strictness, exit codes."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from cds_service import cli
from fhir_mapping.bulk import population
from tests.fhir_mapping.bulk.test_population import export
from tests.fhir_mapping.record.test_cases import PATIENT, STAY, observation

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def invoke(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["riskcards", "map", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return invoke


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    return bundle(tmp_path / "chart.json", PATIENT, STAY, observation())


def bundle(path: Path, *resources: dict[str, Any]) -> Path:
    document = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources]}
    path.write_bytes(orjson.dumps(document))
    return path


def test_help_shows_what_to_type(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for example in ("--to meds --out", "--strict", "--work", "Exit codes"):
        assert example in out


@pytest.mark.parametrize("form", ["features", "notes", "markdown", "codes", "meds"])
def test_every_form_of_one_patient_as_text_and_json(run: Run, chart: Path, form: str) -> None:
    code, out, _ = run(chart, "--to", form, "--json")
    assert code == 0
    assert form in orjson.loads(out)
    assert run(chart, "--to", form)[0] == 0


def test_a_folder_gives_one_line_to_a_patient(run: Run, tmp_path: Path) -> None:
    export(tmp_path / "in", 12)
    code, out, err = run(tmp_path / "in", "--as-of", "2024-05-03T12:00:00Z")
    lines = [orjson.loads(line) for line in out.splitlines()]
    assert (code, {line["subject_id"] for line in lines}) == (0, {f"p{n}" for n in range(12)})
    assert all(line["features"]["sodium.last"]["value"] == 140 for line in lines)
    assert "12 patients mapped, 0 lines or patients not" in err


def test_two_processes_write_what_one_writes(run: Run, tmp_path: Path) -> None:
    export(tmp_path / "in", 20)
    for processes in (1, 2):
        assert run(tmp_path / "in", "--out", tmp_path / f"{processes}.jsonl", "--processes", processes)[0] == 0
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_a_broken_line_is_named_the_rest_is_mapped_and_the_exit_code_says_so(run: Run, tmp_path: Path) -> None:
    export(tmp_path / "in", 5)
    with (tmp_path / "in" / "Observation.0.ndjson").open("ab") as stream:
        stream.write(b'{"resourceType": "Observ')
    code, out, err = run(tmp_path / "in")
    assert (code, len(out.splitlines())) == (3, 5)
    assert "Observation.0.ndjson:4: not a FHIR resource" in err


def test_a_stopped_run_goes_on_and_writes_the_same(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(tmp_path / "in", 40)
    arguments = (tmp_path / "in", "--work", tmp_path / "work")
    run(tmp_path / "in", "--out", tmp_path / "whole.jsonl")
    real, seen = population.PatientPartitions.bucket, []

    def stopping(self: population.PatientPartitions, number: int, *rest: Any) -> Any:
        if number == 2:
            raise population.InvalidInputError("the power went")
        seen.append(number)
        return real(self, number, *rest)

    monkeypatch.setattr(population.PatientPartitions, "bucket", stopping)
    assert run(*arguments, "--out", tmp_path / "out.jsonl")[0] == 3
    monkeypatch.setattr(
        population.PatientPartitions,
        "bucket",
        lambda self, number, *rest: (seen.append(number), real(self, number, *rest))[1],
    )
    assert run(*arguments, "--out", tmp_path / "out.jsonl")[0] == 0
    assert seen == [0, 1, 2, 3]
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_folder_of_bundles(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    bundle(folder / "a.json", PATIENT, STAY)
    (folder / "b.json.gz").write_bytes(gzip.compress(orjson.dumps(PATIENT | {"id": "q"})))
    (folder / "c.json").write_bytes(b"{")
    code, out, err = run(folder)
    assert (code, [orjson.loads(line)["subject_id"] for line in out.splitlines()]) == (3, ["p", "q"])
    assert "c.json: not valid JSON" in err


@pytest.mark.parametrize("many", [False, True])
def test_a_meds_dataset_of_a_file_or_a_folder(run: Run, chart: Path, tmp_path: Path, many: bool) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export(tmp_path / "in", 6)
    source = tmp_path / "in" if many else chart
    code, _, err = run(source, "--to", "meds", "--out", tmp_path / "d", "--splits")
    assert code == 0, err
    data = parquet.read_table(tmp_path / "d" / "data" / "0.parquet")
    assert len(set(data["subject_id"].to_pylist())) == (6 if many else 1)
    assert (tmp_path / "d" / "metadata" / "subject_splits.parquet").exists()


def test_strict_names_every_fault_with_its_path(run: Run, tmp_path: Path) -> None:
    broken = observation(id="a") | {"code": {"coding": [{"cod": "x"}]}, "effectiveDateTime": "yesterday"}
    path = bundle(tmp_path / "x.json", PATIENT, broken)
    code, out, _ = run(path, "--strict", "--json")
    answer = orjson.loads(out)
    assert (code, answer["valid"], answer["resources"]) == (3, False, 2)
    assert {(f["resource"], f["path"]) for f in answer["faults"]} == {
        ("Observation/a", "Observation.code.coding[0].cod"),
        ("Observation/a", "Observation.effectiveDateTime"),
    }
    assert {f["file"] for f in answer["faults"]} == {str(path)}
    code, out, _ = run(path, "--strict")
    assert code == 3
    assert f"{path}: Observation/a: Observation.effectiveDateTime: " in out
    assert run(path)[0] == 0  # without --strict the rest is mapped


def test_strict_accepts_r4_and_r5_and_then_maps(run: Run, tmp_path: Path) -> None:
    for name, kind in (("r4", STAY["class"]), ("r5", [{"coding": [STAY["class"]]}])):
        stay = {k: v for k, v in STAY.items() if k != "period"} | {"class": kind}
        path = bundle(tmp_path / f"{name}.json", PATIENT, stay)
        code, out, err = run(path, "--strict", "--json", "--as-of", "2024-05-03")
        assert (code, orjson.loads(out)["subject_id"]) == (0, "p"), err
    assert run(path, "--strict", "--fhir-version", "R4")[0] == 3


def test_strict_on_a_folder_names_file_and_line(run: Run, tmp_path: Path) -> None:
    export(tmp_path / "in", 3)
    with (tmp_path / "in" / "Observation.0.ndjson").open("ab") as stream:
        stream.write(b'{"resourceType": "Observation", "id": "w", "status": "final"}\n{"resour')
    code, out, _ = run(tmp_path / "in", "--strict")
    assert code == 3
    assert "Observation.0.ndjson:3: Observation/w: Observation.code: Field required" in out
    assert "Observation.0.ndjson:4: -: not valid JSON" in out


WRONG: list[tuple[str, list[str], str]] = [
    ("nothing there", ["absent.json"], "does not exist"),
    ("two folders", ["in", "in"], "either one folder"),
    ("a patient of a folder", ["in", "--patient", "p"], "apply to files"),
    ("a dataset to stdout", ["in", "--to", "meds"], "needs --out"),
    ("work without a folder", ["chart.json", "--work", "w"], "needs a folder"),
    ("splits of features", ["in", "--splits"], "needs --to meds"),
    ("a folder for a file", ["chart.json", "--out", "in"], "give a file"),
    ("an empty folder", ["empty"], "no .ndjson"),
    ("no time", ["chart.json", "--as-of", "soon"], "is not a date"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_wrong_use_says_what_to_do(
    run: Run,
    chart: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arguments: list[str],
    message: str,
) -> None:
    export(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert message in " ".join(err.replace("│", " ").split())


def test_a_note_that_cannot_be_read_says_why_in_both_forms(run: Run, tmp_path: Path) -> None:
    note = {
        "resourceType": "DocumentReference", "id": "n", "status": "current", "date": "2024-05-02T09:00:00Z",
        "subject": {"reference": "Patient/p"}, "content": [{"attachment": {"contentType": "text/plain", "data": "@"}}],
    }  # fmt: skip
    path = bundle(tmp_path / "chart.json", PATIENT, STAY, note)
    (shown,) = orjson.loads(run(path, "--to", "notes", "--json")[1])["notes"]
    assert (shown["status"], shown["reason"]) == ("unreadable", "base64-invalid")
    assert "unreadable (base64-invalid)" in run(path, "--to", "notes")[1]


def test_long_names_of_features_stand_apart_from_their_reasons(run: Run, tmp_path: Path) -> None:
    condition = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"}, "code": {"text": "X"}}
    text = run(bundle(tmp_path / "chart.json", PATIENT, STAY, condition), "--to", "features")[1]
    assert "comorbidity_elixhauser_rheumatoid_arthritis_and_collagen_disease.last  code-not-mapped" in text


def test_several_files_keep_what_one_keeps(run: Run, tmp_path: Path) -> None:
    """More pages of a search and a population were lost when the same resources came in several files."""
    page = {"resourceType": "Bundle", "type": "searchset", "link": [{"relation": "next", "url": "https://x/2"}]}
    stays = tmp_path / "stays.json"
    stays.write_bytes(orjson.dumps(page | {"entry": [{"resource": STAY}]}))
    patient = tmp_path / "patient.json"
    patient.write_bytes(orjson.dumps(PATIENT))
    code, out, _ = run(patient, stays, "--json", "--as-of", "2024-05-03T12:00:00Z")
    found = orjson.loads(out)
    assert code == 0
    assert found["unknown"]["inpatient_stay.count_365d"] == "not-fetched"
    assert {item["reason"] for item in found["refused"]} == {"more-pages"}
    patients, others = tmp_path / "Patient.ndjson", tmp_path / "Encounter.ndjson"
    patients.write_bytes(b"\n".join(orjson.dumps(PATIENT | {"id": name}) for name in ("p", "q")))
    owned = [STAY | {"id": name, "subject": {"reference": f"Patient/{name}"}} for name in ("p", "q")]
    others.write_bytes(b"\n".join(map(orjson.dumps, owned)))
    code, out, _ = run(patients, others, "--json", "--patient", "q", "--as-of", "2024-05-03T12:00:00Z")
    assert code == 0
    assert orjson.loads(out)["features"]["length_of_stay.last"]["sources"] == ["Encounter/q"]
