"""Site maps: local codes are translated by the file only; errors name the file and the field."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from click.testing import CliRunner

from cds_service.cli import cli
from cds_service.config.settings import Settings
from cds_service.config.sources import SettingsError
from fhir_mapping import DefinitionError, PatientRecord, SiteMap, StayClass
from fhir_mapping.site_maps.site_map import shipped
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, Resource, no_value, observation

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "site-maps.md"
LAB = "urn:general-hospital:lab"
MIMIC = "http://mimic.mit.edu/fhir/mimic/CodeSystem"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The site map in the guide."""
    path = tmp_path / "site.yaml"
    path.write_text(GUIDE.read_text("utf-8").partition("```yaml\n")[2].partition("```")[0], "utf-8")
    return path


def local(where: str, item: str, **quantity: Any) -> Resource:
    return observation() | {"code": {"coding": [{"system": where, "code": item}]}, "valueQuantity": quantity}


def record(*resources: Resource, site_map: SiteMap | None = None) -> PatientRecord:
    return PatientRecord.from_resources([PATIENT, *resources], prediction_time=AT, site_map=site_map)


ITEMS: list[tuple[str, Resource, str, float | None]] = [
    ("a concept", local(LAB, "NA", value=140, unit="mmol/L"), "sodium.last", 140),
    ("a LOINC code", local(LAB, "KREA", value=88.4, unit="umol/L"), "creatinine.last", 1.0),
    ("a unit the item fixes", local(LAB, "TEMP", value=38), "temperature.last", 38),
    ("another unit than the item's is converted", local(LAB, "TEMP", value=98.6, unit="[degF]"), "temperature.last", 37),
    ("no unit and none fixed", local(LAB, "NA", value=140), "sodium.last", None),
    ("a code that is not in the map", local(LAB, "NAT", value=140, unit="mmol/L"), "sodium.last", None),
    ("the code in another system", local("urn:other", "NA", value=140, unit="mmol/L"), "sodium.last", None),
    ("a component", no_value(component=[{k: v for k, v in local(LAB, "NA", value=140, unit="mmol/L").items() if k in ("code", "valueQuantity")}]) | {"code": {"text": "panel"}}, "sodium.last", 140),
]  # fmt: skip


@pytest.mark.parametrize(("name", "resource", "feature", "value"), ITEMS, ids=[row[0] for row in ITEMS])
def test_local_items(site: Path, name: str, resource: Resource, feature: str, value: float | None) -> None:
    found = record(resource, site_map=SiteMap.open(site)).features().number(feature)
    assert found == (None if value is None else pytest.approx(value, rel=1e-4))
    assert record(resource).features().number(feature) is None


@pytest.mark.parametrize("code", [{}, {"code": None}, {"code": ["NA"]}, {"code": {"value": "NA"}}, {"code": 7}])
@pytest.mark.parametrize("system", [f"{MIMIC}/mimic-d-labitems", f"{MIMIC}/mimic-diagnosis-icd9"])
def test_a_local_coding_without_a_usable_code_is_left_alone(system: str, code: dict[str, Any]) -> None:
    """A Coding of a mapped system without `code` raised KeyError, and one with a list TypeError."""
    concept = {"code": {"coding": [{"system": system} | code], "text": "sodium"}}
    problem = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"}} | concept
    found = record(observation() | concept, problem)
    assert found.features().number("sodium.last") is None


def test_bytes_and_dictionaries_are_translated_alike(site: Path) -> None:
    resources = [PATIENT, STAY, *(item | {"id": f"o{n}"} for n, (_, item, _, _) in enumerate(ITEMS))]
    raw = orjson.dumps({"resourceType": "Bundle", "entry": [{"resource": r} for r in resources]})
    site_map = SiteMap.open(site)
    lazy = PatientRecord.from_json(raw, prediction_time=AT, site_map=site_map)
    assert lazy == PatientRecord.from_resources(resources, prediction_time=AT, site_map=site_map)


def test_systems_codes_and_classes(site: Path) -> None:
    encounter = STAY | {
        "class": {"system": "urn:general-hospital:class", "code": "S"},
        "identifier": [{"system": "urn:general-hospital:icu-stay", "value": "1"}],
        "status": "finished",
        "period": {"start": "2024-05-01", "end": "2024-05-02"},
        "hospitalization": {
            "dischargeDisposition": {"coding": [{"system": "urn:general-hospital:disposition", "code": "HOME"}]}
        },
    }
    condition = {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "urn:general-hospital:icd10", "code": "I50.9", "display": "Heart failure"}]},
    }
    found = record(encounter, condition, site_map=SiteMap.open(site))
    assert found.stays[0].stay_class is StayClass.INPATIENT
    assert found.stays[0].discharge_disposition == "home"
    assert found.conditions[0].codings[0].system == "http://hl7.org/fhir/sid/icd-10-cm"
    assert record(encounter).stays[0].stay_class is StayClass.OTHER


def test_a_site_may_use_final_results_only(site: Path) -> None:
    site.write_text("name: strict\npreliminary: refuse\n", "utf-8")
    found = record(observation(status="preliminary"), STAY, site_map=SiteMap.open(site)).features()
    assert found.unknown["sodium.last"] == "status-preliminary"


BROKEN: list[tuple[str, str]] = [
    ("name: x\nobservation: []", "site.yaml: observation: unknown field"),
    ("observations: []", "site.yaml: name: is missing"),
    (
        "name: x\nobservations: [{systems: [u], items: {NA: natrium}}]",
        r"observations\[0\].items.NA: unknown concept natrium",
    ),
    ("name: x\nobservations: [{systems: [u], items: {50983: sodium}}]", "put them in quotes"),
    ("name: x\nobservations: [{systems: [u], items: {NA: {concept: sodium, unit: kg}}}]", "cannot be converted"),
    ("name: x\nencounters: [{classes: {S: hotel}}]", "'hotel' is none of inpatient"),
    ("name: x\npreliminary: perhaps", "none of use, refuse"),
    ("name: &a x\nsystems: {u: *a}", "anchors"),
    ("name: [", "site.yaml: line 2"),
    ("- a", "expected a mapping"),
    ("name: !!python/object/apply:os.system [id]", "neither JSON nor YAML"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_errors_name_the_file_and_the_field(site: Path, text: str, message: str) -> None:
    site.write_text(text, "utf-8")
    with pytest.raises(DefinitionError, match=message):
        SiteMap.open(site)
    with pytest.raises(SettingsError, match="RISKCARDS_SITE_MAP"):
        Settings.from_environment({"RISKCARDS_SITE_MAP": str(site)})


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="cannot be read"):
        SiteMap.open(tmp_path / "nowhere.yaml")


def test_the_command_and_the_setting_accept_a_site_map(site: Path, tmp_path: Path) -> None:
    chart = tmp_path / "chart.json"
    chart.write_bytes(orjson.dumps([PATIENT, STAY, local(LAB, "NA", value=140, unit="mmol/L")]))
    answer = CliRunner().invoke(cli, ["map", str(chart), "--site-map", str(site), "--json"])
    assert orjson.loads(answer.output)["features"]["sodium.last"]["value"] == 140
    assert Settings.from_environment({"RISKCARDS_SITE_MAP": str(site)}).site_map == str(site)
    site.write_text("name: 5", "utf-8")
    assert CliRunner().invoke(cli, ["map", str(chart), "--site-map", str(site)]).exit_code == 2


def test_mimic_items_classes_and_dispositions_need_no_file() -> None:
    hospital = STAY | {
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"},
        "identifier": [{"system": "http://mimic.mit.edu/fhir/mimic/identifier/encounter-hosp", "value": "1"}],
    }
    visit = hospital | {
        "id": "ed",
        "identifier": [{"system": "http://mimic.mit.edu/fhir/mimic/identifier/encounter-ed", "value": "2"}],
        "period": {"start": "2024-05-01T02:00:00Z", "end": "2024-05-01T08:00:00Z"},
        "status": "finished",
        "partOf": {"reference": "Encounter/stay"},
    }
    sodium = local(f"{MIMIC}/mimic-d-labitems", "50983", value=140, unit="mEq/L", system=f"{MIMIC}/mimic-units")
    rate = local(f"{MIMIC}/mimic-d-items", "220045", value=80, unit="bpm", code="bpm", system=f"{MIMIC}/mimic-units")
    found = record(hospital, visit, sodium, rate | {"id": "hr"})
    assert [stay.stay_class for stay in found.stays] == [StayClass.EMERGENCY, StayClass.INPATIENT]
    assert found.current_stay is not None
    assert found.current_stay.acute is True
    assert (found.features().number("sodium.last"), found.features().number("heart_rate.last")) == (140, 80)


def test_the_guide_has_the_number_of_shipped_items() -> None:
    codes = {code for _, code in shipped().items}
    assert "50983" in codes
    guide = GUIDE.read_text("utf-8")
    nordic = {code for code in codes if code.startswith(("NPU", "DNK"))}
    codes -= nordic
    laboratory = {code for code in codes if code.startswith(("50", "51"))}
    assert f"{len(laboratory)} laboratory items, {len(codes - laboratory)} charted ones" in " ".join(guide.split())
    assert f"{len(nordic)} codes of NPU" in " ".join(guide.split())
    assert yaml.safe_load(guide.partition("```yaml\n")[2].partition("```")[0])["name"] == "general-hospital"


def test_the_mimic_demo_has_inpatient_stays_and_values(shared_data: Path) -> None:
    folder = shared_data / "mimic-iv-demo-fhir"
    names = ("MimicPatient", "MimicEncounter", "MimicEncounterED", "MimicEncounterICU", "MimicObservationOutputevents")
    raw = b"\n".join(gzip.decompress((folder / f"{name}.ndjson.gz").read_bytes()).strip() for name in names)
    first = orjson.loads(raw.splitlines()[0])["id"]
    found = PatientRecord.from_json(raw, first)
    assert any(stay.stay_class is StayClass.INPATIENT for stay in found.stays)
