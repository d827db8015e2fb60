"""`riskcards map --deidentify`: every form, of files, folders and plain text notes."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.cds_service.commands.test_command_map import Run, run
from tests.risk_model.deidentification.test_records import IDENTIFYING, NOTE, resources

__all__ = ["run"]


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    path = tmp_path / "chart.json"
    path.write_bytes(orjson.dumps(resources()))
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "site.key"
    path.write_text("0123456789abcdef" * 2)
    return path


@pytest.mark.parametrize("form", ["features", "notes", "findings", "markdown", "codes", "meds"])
@pytest.mark.parametrize("json", [("--json",), ()])
def test_no_form_names_the_patient(run: Run, chart: Path, key: Path, form: str, json: tuple[str, ...]) -> None:
    code, out, _ = run(chart, "--to", form, *json, "--deidentify", "--key-file", key)
    assert code == 0
    assert [word for word in IDENTIFYING if word in out] == []


def test_a_folder_is_the_same_as_its_files_and_a_resumed_run_shifts_alike(run: Run, tmp_path: Path, key: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for raw in resources():
        with (folder / f"{raw['resourceType']}.ndjson").open("ab") as stream:
            stream.write(orjson.dumps(raw) + b"\n")
    options = ("--to", "notes", "--deidentify", "--key-file", key)
    code, out, _ = run(folder, *options)
    assert code == 0
    (line,) = map(orjson.loads, out.splitlines())
    chart = tmp_path / "chart.json"
    chart.write_bytes(orjson.dumps(resources()))
    assert orjson.loads(run(chart, *options, "--json")[1])["notes"] == line["notes"]
    assert [word for word in IDENTIFYING if word in out] == []


def test_plain_text_notes_are_read_without_identifiers_and_without_their_file_name(run: Run, tmp_path: Path) -> None:
    note = tmp_path / "Penhaligon.txt"
    note.write_text(NOTE)
    code, out, _ = run(note, "--to", "findings", "--json", "--deidentify")
    found = orjson.loads(out)
    assert (code, found["file"]) == (0, "file 1")
    assert [value["quote"] for value in found["values"]] == ["sodium 128"]
    assert "Penhaligon" not in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--key-file", "KEY"), "add it"),
        (("--keep-weekdays",), "add it"),
        (("--deidentify", "--key-file", "SHORT"), "openssl rand -hex 32"),
        (("--deidentify", "--key-file", "MISSING"), "does not exist"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    run: Run, chart: Path, key: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "short.key").write_text("abc")
    named = {"KEY": key, "SHORT": tmp_path / "short.key", "MISSING": tmp_path / "none.key"}
    code, _, err = run(chart, *(named.get(option, option) for option in options))
    assert code == 2
    assert said in err


def test_resuming_needs_a_key_of_the_site(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    code, _, err = run(folder, "--deidentify", "--work", tmp_path / "work", "--out", tmp_path / "out.jsonl")
    assert (code, "needs --key-file" in err) == (2, True)
