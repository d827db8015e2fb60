"""Shared by the SMART routes: registrations, vault, and one outbound session and gateway per FHIR server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cds_service.access.admission import RateLimit
from cds_service.config.settings import Settings
from cds_service.net.gateway import Gateway
from cds_service.net.outbound import Networks, Outbound
from cds_service.oauth.clients import SmartClient, canonical, is_loopback, read_smart_clients
from cds_service.oauth.discovery import AuthorizationServer, discover
from cds_service.oauth.errors import LaunchRefusedError, SmartSetupError
from cds_service.oauth.vault import Vault, open_cipher
from cds_service.store.store import Store

CHART_SECONDS = 20.0
DISCOVERED_SECONDS = 60.0
# A hospital behind one address opens many charts; each launch costs a row in the store.
LAUNCHES_A_MINUTE = 1200


@dataclass(frozen=True, slots=True)
class Registration:
    """One client with its outbound sessions: for its authorization server and its FHIR server."""

    client: SmartClient
    outbound: Outbound
    gateway: Gateway


@dataclass(frozen=True, slots=True)
class SmartParts:
    """SmartParts.open(settings, store) -> the parts, or None where no SMART clients are configured."""

    registrations: Mapping[str, Registration]
    vault: Vault
    store: Store
    public_url: str
    trusted_proxies: tuple[str, ...] = ()
    rate: RateLimit = field(default_factory=lambda: RateLimit(LAUNCHES_A_MINUTE))
    """Rate limit per client address."""
    discovered: dict[str, tuple[float, AuthorizationServer]] = field(default_factory=dict)

    @classmethod
    def open(cls, settings: Settings, store: Store) -> SmartParts | None:
        """Raises SmartSetupError."""
        clients = check_setup(settings)
        if clients is None:
            return None
        found = {iss: register(client, settings.private_networks) for iss, client in clients.items()}
        vault = Vault(store.sealed, open_cipher(settings.session_key_path()))
        return cls(found, vault, store, settings.public_url.rstrip("/"), settings.trusted_proxies)

    def registration(self, iss: str) -> Registration:
        """Of an `iss` that a launch names. Raises LaunchRefusedError for one that is not on the list."""
        found = self.registrations.get(canonical(iss))
        if found is None:
            advice = "This EHR is not registered here. Its FHIR address must be added to the SMART clients file."
            raise LaunchRefusedError("unknown-iss", advice, status=403)
        return found

    def server_of(self, registration: Registration) -> AuthorizationServer:
        """Returns the FHIR server's SMART configuration, fetched at most once a minute. Raises LaunchRefusedError."""
        iss = registration.client.iss
        until, known = self.discovered.get(iss, (0.0, None))
        if known is None or until < time.monotonic():
            known = discover(registration.client, registration.outbound, iss)
            self.discovered[iss] = (time.monotonic() + DISCOVERED_SECONDS, known)
        return known

    @property
    def redirect_uri(self) -> str:
        return f"{self.public_url}/smart/callback"

    @property
    def secure(self) -> bool:
        """Whether cookies require https; only on localhost they do not."""
        return not is_loopback(self.public_url)

    def cookie_path(self, path: str) -> str:
        """Returns a path as the browser sees it: below the path of the public URL."""
        return urlsplit(self.public_url).path.rstrip("/") + path


def check_setup(settings: Settings) -> Mapping[str, SmartClient] | None:
    """The clients by `iss`, None where none are configured. Raises SmartSetupError."""
    if not settings.smart_clients:
        return None
    if urlsplit(settings.public_url).scheme != "https" and not is_loopback(settings.public_url):
        raise SmartSetupError("RISKCARDS_PUBLIC_URL must be https if SMART clients are configured")
    return read_smart_clients(Path(settings.smart_clients), os.environ)


def register(client: SmartClient, private_networks: tuple[str, ...]) -> Registration:
    """Its ways out: to the hosts of its configuration, wherever our networks allow."""
    networks = Networks.of(private_networks).also(urlsplit(client.iss).hostname or "")
    for host in client.hosts:
        # Configured by name: what is true of a FHIR server named by its literal address is true of its helpers.
        networks = networks.also(host.rpartition(":")[0] or host)
    return Registration(client, Outbound(networks), Gateway([client.iss], CHART_SECONDS, private_networks))
