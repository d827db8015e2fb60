"""Service checks of `riskcards doctor`: EHR clients with their FHIR servers, the SMART app's keys, the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from cds_service.access.clients import CdsClient, ClientsFile
from cds_service.config.settings import Settings
from cds_service.net.outbound import Networks, Outbound, OutboundError

_SECONDS = 5.0
_MAX_CAPABILITIES = 20 * 2**20
_ADVICE = {
    "address-not-allowed": "its address is private; allow its network with RISKCARDS_PRIVATE_NETWORKS",
    "not-resolved": "the host name cannot be resolved",
    "certificate": "no authority known here has signed its certificate; see docs/deploy.md, Private CA",
    "too-slow": "no answer in time; can this machine reach it?",
    "unreachable": "no connection; check address, port and http or https",
}
NOTHING = "not configured"
Look = Callable[[Settings], str]


def clients(settings: Settings) -> str:
    """Checks that every EHR client's keys can be fetched and its FHIR servers answer. Raises naming all that fail."""
    if not settings.cds_clients:
        return f"{NOTHING}: without RISKCARDS_CDS_CLIENTS only `serve --insecure` and the demo start"
    looks: list[Callable[[], str]] = []
    for client in ClientsFile(Path(settings.cds_clients)).clients.values():
        looks.append(partial(_keys_of, client, settings))
        looks += [partial(_fhir_server, client.name, server, settings) for server in client.fhir_servers]
    return _all_of(looks)


def fhir_servers(settings: Settings) -> str:
    """Checks that the FHIR servers of a service without clients answer. Raises naming all that fail."""
    if settings.cds_clients or not settings.fhir_servers:
        return f"{NOTHING}; each EHR client has its own" if settings.cds_clients else NOTHING
    return _all_of(partial(_fhir_server, "FHIR server", server, settings) for server in settings.fhir_servers)


def _all_of(looks: Iterable[Callable[[], str]]) -> str:
    """What every look found. Raises ValueError with every fault, and then what held."""
    found, faults = [], []
    for look in looks:
        try:
            found.append(look())
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("; ".join((*faults, *found)))
    return "; ".join(found) or "no client: nobody is accepted"


def _keys_of(client: CdsClient, settings: Settings) -> str:
    """Raises ValueError."""
    from cds_hooks import KeyRefusedError
    from cds_service.access.client_keys import fetch_keys

    if client.keys is not None:
        return f"{client.name}: {len(client.keys)} pinned keys"
    try:
        keys = fetch_keys(client.jwks_url, Outbound(Networks.of(settings.private_networks)))
    except OutboundError as error:
        raise ValueError(f"{client.name}: no keys from {client.jwks_url} ({_remedy(error)})") from None
    except KeyRefusedError as error:
        raise ValueError(f"{client.name}: no keys from {client.jwks_url} ({error})") from None
    return f"{client.name}: {len(keys)} keys from {client.jwks_url}"


def _fhir_server(name: str, server: str, settings: Settings) -> str:
    """Reads the CapabilityStatement, without a token; a server that asks for one is there too. Raises ValueError."""
    outbound = Outbound(Networks.of(settings.private_networks).also(urlsplit(server).hostname or ""))
    url = f"{server.rstrip('/')}/metadata"
    accept = {"Accept": "application/fhir+json, application/json"}
    try:
        answer = outbound.request(
            "GET", url, headers=accept, deadline=time.monotonic() + _SECONDS, max_bytes=_MAX_CAPABILITIES
        )
    except OutboundError as error:
        raise ValueError(f"{name}: {server} does not answer ({_remedy(error)})") from None
    if answer.status in {401, 403}:
        return f"{name}: {server} answers, and shows its capabilities to nobody without a token"
    try:
        found = orjson.loads(answer.body) if answer.status == 200 else None
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or found.get("resourceType") != "CapabilityStatement":
        raise ValueError(
            f"{name}: {url} answers {answer.status} and no CapabilityStatement; is this the FHIR base URL?"
        )
    version = found.get("fhirVersion")
    if not str(version).startswith("4."):
        raise ValueError(f"{name}: {server} is FHIR {version}; riskcards reads R4")
    return f"{name}: {server} answers, FHIR {version}"


def _remedy(error: OutboundError) -> str:
    return f"{error}: {_ADVICE[error.reason]}" if error.reason in _ADVICE else str(error)


def smart_app(settings: Settings) -> str:
    """Checks every SMART registration, its server's discovery document, and the session encryption key."""
    from cds_service.oauth.discovery import discover
    from cds_service.oauth.errors import SmartError
    from cds_service.oauth.vault import open_cipher
    from cds_service.smart.parts import check_setup, register

    registered = check_setup(settings)
    if registered is None:
        return f"{NOTHING}: the SMART app needs RISKCARDS_SMART_CLIENTS"
    path = settings.session_key_path()
    if path.exists():  # checking must not create it
        open_cipher(path)
    checked = [f"session key {path}" if path.exists() else f"session key {path} will be created at the first start"]
    for iss, client in registered.items():
        try:
            discover(client, register(client, settings.private_networks).outbound, iss)
        except SmartError as error:
            raise ValueError(f"{client.name}: {iss} cannot be used ({error})") from None
        checked.append(f"{client.name}: {client.type}, {len(client.keys)} signing keys, discovery answers")
    return "; ".join(checked)


def database(settings: Settings) -> str:
    """Checks that the database is writable and the audit chain is intact."""
    from cds_service.store.errors import StoreError

    store = settings.open_store()
    try:
        store.check()
        chain = store.verify_audit()
        if chain.fault is not None:
            raise StoreError(f"the audit chain is broken: {chain.fault}")
        return f"{store.kind} takes a write; audit chain of {chain.entries} entries holds"
    finally:
        store.close()


LOOKS: Mapping[str, Look] = {
    "EHR clients": clients,
    "FHIR servers": fhir_servers,
    "SMART app": smart_app,
    "database": database,
}
