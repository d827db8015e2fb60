"""A cohort of a hospital that speaks its own codes is that of the same hospital in standard ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cds_service.cli import cli
from risk_model.cohorts import builder
from risk_model.cohorts.fhir_source import FhirFolder
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.core.errors import CohortError
from risk_model.labels.task_definitions import find_definition
from tests.risk_model.cohorts.test_labelled_cohort import Resource, population, write

SITE = """
name: general-hospital
observations:
  - {systems: [urn:lab], items: {NA: sodium}}
encounters:
  - {system: urn:class, classes: {S: inpatient}}
preliminary: refuse
"""


def in_local_codes(charts: list[list[Resource]]) -> list[list[Resource]]:
    """Classes and laboratory codes as only this hospital knows them."""
    local = json.loads(json.dumps(charts))
    for resource in (resource for chart in local for resource in chart):
        if resource["resourceType"] == "Encounter":
            resource["class"] = {"system": "urn:class", "code": "S"}
        if resource["resourceType"] == "Observation":
            resource["code"] = {"coding": [{"system": "urn:lab", "code": "NA"}]}
    return local


def build(tmp_path: Path, name: str, charts: list[list[Resource]], *options: object) -> tuple[int, str, Path]:
    out = tmp_path / name
    export = write(tmp_path / f"{name}-export", charts)
    words = ["cohort", "build", "--task", "readmission_30d", "--fhir", export, "--out", out, *options]
    result = CliRunner().invoke(cli, [str(word) for word in words])
    return result.exit_code, result.output, out


def test_labels_and_features_are_those_of_standard_codes(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE, "utf-8")
    plain, mapped = (
        LabelledCohort.open(build(tmp_path, name, charts, *options)[2])
        for name, charts, options in (
            ("plain", population(), ()),
            ("mapped", in_local_codes(population()), ("--site-map", site)),
        )
    )
    assert mapped.rows == plain.rows
    assert "general-hospital" in mapped.manifest["site_maps"]
    for (row, record), (_, expected) in zip(mapped.records(), plain.records(), strict=True):
        assert record.features().number("sodium.last") == expected.features().number("sodium.last"), row.subject_id


def test_its_rule_for_preliminary_results_holds_in_the_rows_too(tmp_path: Path) -> None:
    charts = in_local_codes(population())
    for resource in (resource for chart in charts for resource in chart):
        if resource["resourceType"] == "Observation":
            resource["status"] = "preliminary"
    site = tmp_path / "site.yaml"
    site.write_text(SITE, "utf-8")
    _, _, out = build(tmp_path, "out", charts, "--site-map", site)
    sodium = [record.features().number("sodium.last") for _, record in LabelledCohort.open(out).records()]
    assert sodium
    assert set(sodium) == {None}


def test_an_altered_map_is_noticed(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE, "utf-8")
    _, _, out = build(tmp_path, "out", in_local_codes(population()), "--site-map", site)
    (out / "site_map.yaml").write_text(SITE.replace("sodium", "potassium"), "utf-8")
    with pytest.raises(CohortError, match=r"site_map\.yaml"):
        LabelledCohort.open(out)


def test_unknown_classes_are_named_without_the_map(tmp_path: Path) -> None:
    export = write(tmp_path / "export", in_local_codes(population()))
    with FhirFolder(export) as source, pytest.raises(CohortError, match="encounters by class: other"):
        builder.build_cohort(find_definition("readmission_30d"), source, tmp_path / "out", builder.CohortOptions())


def test_a_mistake_in_the_map_stops_before_any_work(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE.replace("sodium", "natrium"), "utf-8")
    code, output, out = build(tmp_path, "out", population(), "--site-map", site)
    assert code == 2
    assert "natrium" in output
    assert not out.exists()
