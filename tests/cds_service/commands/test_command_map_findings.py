"""`riskcards map FILE... --to findings`: FHIR files and plain text, one document a file."""

from __future__ import annotations

import base64
from pathlib import Path

import orjson
import pytest

from tests.cds_service.commands.test_command_map import Run, bundle, run
from tests.fhir_mapping.record.test_cases import PATIENT

__all__ = ["run"]


def document(text: str, **more: object) -> dict[str, object]:
    attachment = {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}
    return {
        "resourceType": "DocumentReference",
        "id": "n1",
        "status": "current",
        "date": "2024-05-01T10:00:00Z",
        "subject": {"reference": f"Patient/{PATIENT['id']}"},
        "content": [{"attachment": attachment}],
        **more,
    }


def test_a_text_file_is_one_note_with_the_offsets_of_the_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n\nDenies chest pain.\nNa 128 (135-145) L\n")
    code, out, _ = run(file, "--to", "findings", "--json")
    found = orjson.loads(out)
    assert (code, found["file"], found["not_read"]) == (0, str(file), [])
    (finding,), (value,) = found["findings"], found["values"]
    assert (finding["concept"], finding["polarity"], finding["temporality"]) == ("D002637", "absent", "current")
    assert (value["concept"], value["value"], value["unit"], value["counts"]) == ("sodium", 128, "mmol/L", True)
    for item in (finding, value):
        assert file.read_text()[item["start"] : item["end"]] == item["quote"]


def test_several_files_give_one_line_each_and_a_bad_one_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Pneumonia.")
    (tmp_path / "b.txt").write_bytes(b"\x00\x01\x02\x03" * 20)
    (tmp_path / "c.txt").write_text("")
    chart = bundle(tmp_path / "d.json", PATIENT, document("No fever."))
    code, out, err = run(
        tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.txt", chart, "--to", "findings", "--json"
    )
    lines = [orjson.loads(line) for line in out.splitlines()]
    assert (code, [Path(line["file"]).name for line in lines]) == (3, ["a.txt", "c.txt", "d.json"])
    assert [len(line["findings"]) for line in lines] == [1, 0, 1]
    assert lines[2]["findings"][0]["note"] == "DocumentReference/n1"
    assert "b.txt: not a text file" in err


def test_of_values_that_count_the_last_in_the_text_is_the_latest(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("K 3.1, down from 5.9. BP 150/90, now 88/45. Cr 1.2 -> 2.3")
    values = orjson.loads(run(tmp_path / "a.txt", "--to", "findings", "--json")[1])["values"]
    last = {value["concept"]: value["value"] for value in values if value["counts"]}
    assert last == {"potassium": 3.1, "systolic_bp": 88, "diastolic_bp": 45, "creatinine": 2.3}


def test_a_note_in_another_language_is_named_with_its_reason(run: Run, tmp_path: Path) -> None:
    chart = bundle(tmp_path / "a.json", PATIENT, document("Diabetes mellitus", language="fr-BE"))
    found = orjson.loads(run(chart, "--to", "findings", "--json")[1])
    assert (found["findings"], found["values"]) == ([], [])
    assert found["not_read"] == [{"note": "DocumentReference/n1", "reason": "language-fr", "part": False}]


def test_a_folder_of_text_files_and_the_readable_form(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Pneumonia.")
    (tmp_path / "b.txt").write_text("Oliguric.")
    code, out, _ = run(tmp_path, "--to", "findings")
    assert code == 0
    assert "Pneumonia" in out
    assert "urine_rate grade -1" in out


@pytest.mark.parametrize("form", ["features", "notes"])
def test_a_text_file_is_no_fhir(run: Run, tmp_path: Path, form: str) -> None:
    (tmp_path / "a.txt").write_text("Pneumonia.")
    code, _, err = run(tmp_path / "a.txt", "--to", form)
    assert code == 2
    assert "--to findings" in err
