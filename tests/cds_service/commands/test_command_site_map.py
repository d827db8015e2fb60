"""`riskcards site-map import` and `suggest`."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import yaml
from click.testing import CliRunner

from cds_service.commands.patients.site_map import command
from fhir_mapping import InvalidInputError, SiteMap
from tests.fhir_mapping.site_maps.test_concept_maps import LAB, concept_map, observed


def test_an_import_extends_a_site_map_and_says_what_was_not_taken(tmp_path: Path) -> None:
    site, file = tmp_path / "site.yaml", tmp_path / "map.json"
    site.write_text(yaml.safe_dump({"name": "mine", "preliminary": "refuse"}))
    file.write_bytes(
        concept_map({"code": "2951-2", "equivalence": "equal"}, {"code": "2951-2", "equivalence": "wider"})
    )
    result = CliRunner().invoke(command, ["import", str(file), "--into", str(site), "--out", str(site), "--json"])
    assert result.exit_code == 0, result.output
    report = orjson.loads(result.stdout)
    assert (report["taken"], report["refused"], report["conflicts"]) == (1, {"wider": 1}, [])
    opened = SiteMap.open(site)
    assert opened.items[(LAB, "NA")] == ("2951-2", None)
    assert not opened.preliminary
    again = CliRunner().invoke(command, ["import", str(file), "--into", str(site), "--out", str(site)])
    assert "0 codes taken, 1 known already" in again.stdout
    assert "not taken: 1 wider" in again.stdout


def test_a_conflict_is_reported_and_ends_with_3(tmp_path: Path) -> None:
    file, out = tmp_path / "map.csv", tmp_path / "site.yaml"
    file.write_text("code,loinc\nNA,2951-2\nNA,2823-3\nK,2823-3\n")
    result = CliRunner().invoke(command, ["import", str(file), "--system", LAB, "--out", str(out)])
    assert (result.exit_code, "conflict: urn:hospital:lab|NA" in result.stdout) == (3, True)
    assert set(SiteMap.open(out).items) >= {(LAB, "K")}
    assert (LAB, "NA") not in SiteMap.open(out).items


def test_proposals_of_an_export_and_a_draft_of_the_clear_ones(tmp_path: Path) -> None:
    lines = [observed("NA", "Sodium", value, "mmol/L") for value in (131, 140)] + [observed("Q", "Qwert", 1, "mg/dL")]
    (tmp_path / "Observation.ndjson").write_bytes(b"\n".join([*map(orjson.dumps, lines), b"{broken Observation"]))
    out = tmp_path / "draft.yaml"
    result = CliRunner().invoke(command, ["suggest", str(tmp_path), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "clear sodium" in result.stdout
    assert "check ?" in result.stdout
    assert "Observation.ndjson:4" in result.stderr
    assert SiteMap.open(out).items[(LAB, "NA")][0] == "2951-2"
    assert out.read_text().startswith("# A draft")


def test_an_export_without_local_codes_says_so(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("{}")
    result = CliRunner().invoke(command, ["suggest", str(file)])
    assert isinstance(result.exception, InvalidInputError)
    assert "no Observation with a local code" in str(result.exception)


@pytest.mark.parametrize("command_name", ["import", "suggest"])
def test_help(command_name: str) -> None:
    assert "Exit codes" in CliRunner().invoke(command, [command_name, "--help"]).stdout


@pytest.mark.parametrize(
    ("file", "into", "said"),
    [
        (b"code,loinc\nNA,2951-2\n", "name: x\nobservations: 3\n", "--into site.yaml: observations"),
        (b"code,loinc\nNA,2951-2\n", "[", "--into site.yaml"),
        (b"code,loinc\n", "name: x\n", "no mapping of a code"),
        (b'{"resourceType": "ConceptMap", "group": [{"source": "urn:x", "element": "y"}]}', "name: x\n", "no mapping"),
        (b'{"resourceType": "ConceptMap"}', "name: x\n", "no mapping"),
    ],
)
def test_bad_input_says_what_is_wrong_and_writes_nothing(tmp_path: Path, file: bytes, into: str, said: str) -> None:
    (tmp_path / "map").write_bytes(file)
    (tmp_path / "site.yaml").write_text(into)
    arguments = ["--into", str(tmp_path / "site.yaml"), "--system", LAB, "--out", str(tmp_path / "out.yaml")]
    result = CliRunner().invoke(command, ["import", str(tmp_path / "map"), *arguments])
    assert isinstance(result.exception, InvalidInputError)
    assert said in str(result.exception)
    assert not (tmp_path / "out.yaml").exists()
