"""The demo over a FHIR server of another hand (sekmet-fhir): what it lists, what it leaves out, what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cds_service.demo.blueprint import create_demo_app
from cds_service.demo.setup import demo_settings
from cds_service.demo.ward.fhir_server import from_server
from cds_service.demo.ward.patients import DemoPatient, shipped
from cds_service.net.gateway import Gateway, GatewayError
from fhir_mapping import InvalidInputError
from tests.end_to_end.conftest import free_port
from tests.patience import PATIENT, patient
from tests.sekmet import sekmet

CHOSEN = ("Santiago", "Griffin")


@pytest.fixture(scope="module")
def patients() -> list[DemoPatient]:
    return [patient for patient in shipped().patients.values() if patient.name.startswith(CHOSEN)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, patients: list[DemoPatient]) -> Iterator[str]:
    """sekmet-fhir with two of the shipped patients in it."""
    with sekmet(tmp_path_factory.mktemp("sekmet"), (patient.chart.resources for patient in patients)) as url:
        yield url


def test_the_ward_of_a_server_shows_its_patients_with_their_risks(
    server: str, patients: list[DemoPatient], tmp_path: Path
) -> None:
    said: list[str] = []
    ward = from_server(server, say=said.append)
    assert sorted(ward.patients) == sorted(patient.id for patient in patients)
    assert ward.refused == ()
    assert said[-1].endswith("2 of 2")
    app = create_demo_app(patient(demo_settings("http://127.0.0.1:1", tmp_path)), ward)
    client = app.test_client()
    page = client.get("/demo/").get_data(as_text=True)
    assert f"patients of {server}" in page
    risks = {patient.name: client.get(f"/demo/api/risk/{patient.id}").get_json() for patient in patients}
    griffin = next(risk for name, risk in risks.items() if name.startswith("Griffin"))
    # His stay is in intensive care, which only its Location says.
    assert (griffin[0]["label"], griffin[0]["words"][-1]) == ("death", "%")
    app.extensions["riskcards"].store.close()


def test_an_unsupported_search_parameter_is_an_error(server: str, patients: list[DemoPatient]) -> None:
    """sekmet-fhir cannot search Composition by patient. Asked leniently it answers with those of every patient, and
    each chart was then another patient's; asked strictly it says so, and the type counts as not fetched.
    """
    with pytest.raises(GatewayError, match="status: 400"):
        Gateway([server], PATIENT).fetch(server, f"Composition?patient={patients[0].id}&_count=50")
    assert "Composition" in from_server(server).patients[patients[0].id].story


def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(InvalidInputError, match="patients cannot be listed"):
        from_server(f"http://127.0.0.1:{free_port()}/fhir")
