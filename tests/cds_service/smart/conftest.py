"""One app registered at four realms of one EHR; opening models takes a second, and no test changes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cds_service.application.factory import create_app
from cds_service.demo.ward.chart import Chart
from tests.cds_service.smart.authority import CLIENT_ID, SECRET, Realm, new_ec_pem, new_rsa_pem, start
from tests.cds_service.smart.browser import Browser
from tests.end_to_end.golden import EXAMPLES
from tests.patience import patient_settings

EXAMPLE_OF = {"walter": "diabetic-heart-failure-view", "ines": "sepsis-icu-first-day"}


def charts() -> dict[str, Chart]:
    """Two patients, each under the id the launches name."""
    found = {}
    for name, example in EXAMPLE_OF.items():
        # Ids are unique over all examples; the launches name the stay alone.
        text = (EXAMPLES / example / "bundle.json").read_text("utf-8").replace('-view"', '"')
        own = next(e["resource"]["id"] for e in json.loads(text)["entry"] if e["resource"]["resourceType"] == "Patient")
        renamed = text.replace(f'"Patient/{own}"', f'"Patient/{name}"').replace(f'"id": "{own}"', f'"id": "{name}"')
        found[name] = Chart.from_bundle(json.loads(renamed))
    return found


@pytest.fixture(scope="package")
def realms() -> Iterator[dict[str, Realm]]:
    found, server = start(charts())
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="package")
def app(realms: dict[str, Realm], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("smart")
    app = create_app(patient_settings(configuration(folder, realms)))
    yield app
    app.extensions["riskcards"].store.close()


def configuration(folder: Path, realms: dict[str, Realm]) -> dict[str, str]:
    for name, pem in (("ec.pem", new_ec_pem()), ("rsa.pem", new_rsa_pem()), ("secret", SECRET.encode())):
        (folder / name).write_bytes(pem)
    credentials: dict[str, dict[str, Any]] = {
        "public": {"type": "public"},
        "symmetric": {"type": "symmetric", "client_secret_file": str(folder / "secret")},
        "asymmetric": {"type": "asymmetric", "private_keys": [str(folder / "ec.pem")]},
        "rsa": {"type": "asymmetric", "private_keys": [str(folder / "rsa.pem"), str(folder / "ec.pem")]},
    }
    clients = [
        {
            "name": name,
            "iss": realm.base,
            "client_id": CLIENT_ID,
            "frame_ancestors": ["https://ehr.example.org", "https://hospital.example"],
        }
        | credentials[name]
        for name, realm in realms.items()
    ]
    (folder / "smart.json").write_text(json.dumps({"clients": clients}))
    return {
        "RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/smart.db",
        "RISKCARDS_PUBLIC_URL": "https://cds.example.org",
        "RISKCARDS_SMART_CLIENTS": str(folder / "smart.json"),
        "RISKCARDS_SESSION_KEY_FILE": str(folder / "session.key"),
    }


@pytest.fixture
def browser(app: Flask) -> Browser:
    return Browser(app)


@pytest.fixture
def ehr(realms: dict[str, Realm], browser: Browser, app: Flask) -> Realm:
    """The realm of the asymmetric client; every realm well-behaved again."""
    smart = app.extensions["riskcards"].smart
    smart.discovered.clear()
    smart.rate._buckets.clear()
    for realm in realms.values():
        realm.reset()
        realm.client_keys = lambda: browser.get("/.well-known/jwks.json").get_json()
    return realms["asymmetric"]
