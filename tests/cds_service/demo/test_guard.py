"""Who may see the demo's charts: the browser that opened its address, and no other website."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from cds_service.demo.blueprint import create_demo_app
from cds_service.demo.guard import DemoGuard
from cds_service.demo.setup import demo_settings
from cds_service.demo.ward.patients import DemoWard, shipped
from tests.patience import patient

ADDRESS = "http://127.0.0.1:8080"
SECRET = "made-for-this-run"


@pytest.fixture(scope="module")
def ward() -> DemoWard:
    return shipped()


@pytest.fixture(scope="module")
def app(ward: DemoWard, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    settings = patient(demo_settings(ADDRESS, tmp_path_factory.mktemp("guarded")))
    return create_demo_app(settings, ward, guard=DemoGuard(ADDRESS, frozenset({"demo.example"}), SECRET))


def test_charts_need_the_secret_of_the_run(app: Flask, ward: DemoWard) -> None:
    name = min(ward.patients)
    paths = [
        "/demo/", f"/demo/patients/{name}", f"/demo/api/risk/{name}", f"/demo/app/{name}/", f"/demo/app/{name}/course",
        "/demo/trace/x", "/demo/static/demo.js", "/%64emo/",
    ]  # fmt: skip
    anonymous = app.test_client()
    for path in paths:
        assert anonymous.get(path).status_code == 403, path
        assert anonymous.get(f"{path}?key=guessed").status_code == 403, path
    assert anonymous.post(f"/demo/api/request/hospital-risk/{name}").status_code == 403
    assert anonymous.post(f"/demo/api/launch/{name}").status_code == 403
    assert anonymous.get("/demo/fhir/Patient/x").status_code == 401, "its own key: the token of a launch"
    user = app.test_client()
    opened = user.get(f"/demo/?key={SECRET}")
    assert (opened.status_code, opened.headers["Location"]) == (303, "/demo/")
    cookie = opened.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    for path in paths[:5]:
        assert user.get(path).status_code == 200, path


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8080", True), ("localhost:8080", True), ("LOCALHOST:8080", True), ("[::1]:8080", True),
        ("demo.example", True), ("evil.example", False), ("127.0.0.1.evil.example:8080", False),
        ("localhost.evil.example", False), ("evil.example@127.0.0.1", False), ("10.0.0.7:8080", False), ("", False),
        ("[::1", False), ("2130706433", False),
    ],
)  # fmt: skip
def test_only_its_own_host_names_are_answered(app: Flask, host: str, allowed: bool) -> None:
    """A website whose name resolves to 127.0.0.1 (DNS rebinding) reads what the browser may read."""
    client = app.test_client()
    client.get(f"/demo/?key={SECRET}")
    for path in ("/demo/", "/cds-services"):
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code != 421) is allowed
        assert host == "" or allowed or host not in answer.get_data(as_text=True)


def test_no_website_may_read_its_answers(app: Flask, ward: DemoWard) -> None:
    client, origin = app.test_client(), {"Origin": "https://evil.example"}
    client.get(f"/demo/?key={SECRET}")
    for path in ("/demo/", f"/demo/patients/{min(ward.patients)}", "/cds-services", "/health/live"):
        for method in ("GET", "OPTIONS"):
            assert "Access-Control-Allow-Origin" not in client.open(path, method=method, headers=origin).headers


def test_the_shipped_patients_need_no_secret_and_still_the_host(ward: DemoWard, tmp_path: Path) -> None:
    client = create_demo_app(patient(demo_settings(ADDRESS, tmp_path)), ward).test_client()
    assert client.get("/demo/").status_code == 200
    assert client.get("/demo/", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("host", "allowed"), [("10.0.0.7:8080", True), ("[fd00::7]:8080", True), ("evil.example:8080", False)]
)
def test_on_every_interface_its_addresses_are_answered_and_no_foreign_name(host: str, allowed: bool) -> None:
    assert DemoGuard("http://0.0.0.0:8080")._is_allowed(host) is allowed
