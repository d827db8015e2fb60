"""Backend services (SMART 2.2, "Backend Services"): access without a user, by our key, with `system/` scopes."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Lock

from cds_service.oauth.clients import canonical, read_smart_clients
from cds_service.oauth.discovery import discover
from cds_service.oauth.errors import LaunchRefusedError, SmartSetupError
from cds_service.oauth.grant import Grant, client_credentials
from cds_service.oauth.scopes import system_scopes
from cds_service.smart.parts import Registration, register

# A token with less time left is renewed: a bulk server may queue a request.
EARLY_SECONDS = 60


class BackendAccess:
    """BackendAccess(find_backend(path, "general", server, networks)).token() -> a token valid for at least a minute

    `also` are scopes beside those that read a chart.
    """

    def __init__(self, registration: Registration, also: tuple[str, ...] = ()) -> None:
        self.registration = registration
        self._also = also
        self._grant: Grant | None = None
        self._lock = Lock()

    def token(self) -> str:
        """Returns a valid access token. Raises LaunchRefusedError if the server grants none."""
        with self._lock:
            if self._grant is None or self._grant.expires - EARLY_SECONDS <= time.time():
                self._grant = self._ask()
            return self._grant.access_token

    def forget(self) -> None:
        """Gives up the token, which the server no longer takes."""
        with self._lock:
            self._grant = None

    def _ask(self) -> Grant:
        client, outbound = self.registration.client, self.registration.outbound
        server = discover(client, outbound, client.iss)
        if not server.token_endpoint:
            raise LaunchRefusedError("no-endpoints", "The server's smart-configuration names no token endpoint.")
        scopes = system_scopes(server, client.scopes, self._also)
        return client_credentials(client, outbound, server.token_endpoint, scopes)


def find_backend(
    path: Path, name: str, server: str | None = None, private_networks: tuple[str, ...] = ()
) -> Registration:
    """The client of that name in the SMART clients file; a `server` must be its own. Raises SmartSetupError."""
    clients = {client.name: client for client in read_smart_clients(path).values()}
    client = clients.get(name)
    if client is None:
        raise SmartSetupError(f"{path}: no client {name!r}; known clients: {', '.join(clients) or 'none'}")
    if client.type != "asymmetric":
        raise SmartSetupError(f"{path}: {name} is {client.type}; backend services need an asymmetric client")
    if server is not None and canonical(client.iss) != canonical(server):
        raise SmartSetupError(f"{path}: {name} is registered at {client.iss}, not at {server}")
    return register(client, private_networks)
