"""A service whose client `asymmetric` is kept fresh, over a FHIR server in memory behind an authorization server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cds_service.application.factory import create_app
from cds_service.hooks.hook_handler import HookHandler
from cds_service.refresh.estimates import FreshEstimates
from cds_service.refresh.jobs import RefreshJobs
from cds_service.refresh.parts import fresh_estimates, refresh_jobs
from cds_service.refresh.servers import RefreshServer, refresh_servers
from cds_service.store.store import Store
from tests.cds_service.refresh.ward_server import WardServer, ward_server
from tests.cds_service.smart.authority import Realm, start
from tests.cds_service.smart.conftest import configuration
from tests.patience import patient_settings

SECRET = "a-secret-of-the-ehr-0123456789abcdef"
NAME = "asymmetric"


@pytest.fixture(scope="package")
def server() -> Iterator[WardServer]:
    with ward_server() as found:
        yield found


@pytest.fixture(scope="package")
def realms() -> Iterator[dict[str, Realm]]:
    found, running = start({})
    yield found
    running.shutdown()
    running.server_close()


@pytest.fixture(scope="package")
def app(realms: dict[str, Realm], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("refresh")
    env = configuration(folder, realms)
    with_secret(folder)
    app = create_app(
        patient_settings(env | {"RISKCARDS_REFRESH_CLIENTS": NAME, "RISKCARDS_REFRESH_SETTLE_SECONDS": "0"})
    )
    yield app
    app.extensions["riskcards"].store.close()


def with_secret(folder: Path) -> None:
    """Adds a subscription secret to the client."""
    (folder / "subscription").write_text(f"{'0' * 40}\n{SECRET}\n")
    found = json.loads((folder / "smart.json").read_text())
    for client in found["clients"]:
        if client["name"] == NAME:
            client["subscription_secret_file"] = str(folder / "subscription")
    (folder / "smart.json").write_text(json.dumps(found))


@dataclass
class Refreshed:
    """The parts of one test; the store is the package's, and emptied before."""

    app: Flask
    ehr: Realm
    ward: WardServer
    server: RefreshServer
    jobs: RefreshJobs
    estimates: FreshEstimates

    @property
    def handler(self) -> HookHandler:
        found: HookHandler = self.app.extensions["riskcards"].handler
        return found

    @property
    def store(self) -> Store:
        return self.handler.store

    def queued(self) -> list[str]:
        """The resources of the jobs that wait, which are taken."""
        found: list[str] = []
        while (job := self.jobs.queue.take(NAME, self.handler.clock() + timedelta(days=2), timedelta())) is not None:
            found.append(str(self.jobs.resource_of(job)))
            self.jobs.queue.done(job, self.handler.clock())
        return sorted(found)


@pytest.fixture
def fresh(app: Flask, realms: dict[str, Realm], server: WardServer) -> Refreshed:
    from sqlalchemy import delete

    from cds_service.store.schema import REFRESH_JOBS, REFRESH_POSITIONS, SEALED

    parts = app.extensions["riskcards"]
    with parts.store._engine.begin() as connection:
        for table in (REFRESH_JOBS, REFRESH_POSITIONS, SEALED):
            connection.execute(delete(table))
    for service, tenant in parts.store.modes():
        parts.store.set_mode(service, tenant, "live", "the next test")
    parts.handler.modes._read = float("-inf")
    server.clear()
    realm = realms[NAME]
    realm.reset()
    keys: Any = app.test_client()
    realm.client_keys = lambda: keys.get("/.well-known/jwks.json").get_json()
    realm.wrong = {"ward_behind": server.url}
    settings = parts.settings
    (found,) = refresh_servers(settings)
    return Refreshed(
        app, realm, server, found, refresh_jobs(settings, parts.store), fresh_estimates(settings, parts.store)
    )
