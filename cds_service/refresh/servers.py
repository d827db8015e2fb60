"""The FHIR servers whose inpatients are kept fresh, read with the service's own login (SMART backend services)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cds_service.config.settings import Settings
from cds_service.net.gateway import Gateway, GatewayError
from cds_service.oauth.clients import SmartClient
from cds_service.oauth.errors import LaunchRefusedError, SmartSetupError
from cds_service.smart.backend import BackendAccess, find_backend

REQUEST_SECONDS = 30.0
"""For one page, one read or one update."""
WRITTEN_SCOPES = ("system/RiskAssessment.crus", "system/Provenance.crus")


@dataclass(frozen=True, slots=True)
class RefreshServer:
    """One server: `name` is that of its SMART client."""

    name: str
    client: SmartClient
    gateway: Gateway
    access: BackendAccess

    @property
    def base(self) -> str:
        """The FHIR base URL."""
        return self.client.iss.rstrip("/")

    def token(self) -> str:
        """A valid access token. Raises GatewayError "no-access", transient where the authorization server is down."""
        try:
            return self.access.token()
        except LaunchRefusedError as error:
            status = 503 if error.status >= 500 else 403
            raise GatewayError("no-access", status=status, detail=error.reason) from None

    def deadline(self) -> float:
        """Of `time.monotonic()`, for one request."""
        return time.monotonic() + REQUEST_SECONDS


def refresh_servers(settings: Settings, only: tuple[str, ...] = ()) -> tuple[RefreshServer, ...]:
    """The servers of RISKCARDS_REFRESH_CLIENTS, or of the names in `only`. Raises SmartSetupError."""
    names = tuple(dict.fromkeys(only or settings.refresh_clients))
    unknown = sorted(set(names) - set(settings.refresh_clients))
    if unknown:
        known = ", ".join(settings.refresh_clients) or "none"
        raise SmartSetupError(f"{unknown[0]!r} is not among RISKCARDS_REFRESH_CLIENTS ({known})")
    if names and not settings.smart_clients:
        raise SmartSetupError("RISKCARDS_REFRESH_CLIENTS needs RISKCARDS_SMART_CLIENTS; see docs/fresh-scores.md")
    also = WRITTEN_SCOPES if settings.write_back else ()
    found = []
    for name in names:
        way = find_backend(Path(settings.smart_clients), name, None, settings.private_networks)
        # Nobody waits for these charts: one that came in part is read again.
        gateway = Gateway([way.client.iss], REQUEST_SECONDS, settings.private_networks, keep_partial=False)
        found.append(RefreshServer(name, way.client, gateway, BackendAccess(way, also)))
    return tuple(found)
