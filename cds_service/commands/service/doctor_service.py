"""Service checks of `riskcards doctor`: EHR clients, the SMART app's keys, the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cds_service.config.settings import Settings

NOTHING = "not configured"
Look = Callable[[Settings], str]


def clients(settings: Settings) -> str:
    """Checks that the keys of every EHR client can be fetched. Raises for the first that fails."""
    from cds_hooks import KeyRefusedError
    from cds_service.auth.clients import ClientsFile
    from cds_service.auth.keys import fetch_keys
    from cds_service.net.outbound import Networks, Outbound, OutboundError

    if not settings.cds_clients:
        return f"{NOTHING}: without RISKCARDS_CDS_CLIENTS only `serve --insecure` and the demo start"
    outbound, checked = Outbound(Networks.of(settings.private_networks)), []
    for client in ClientsFile(Path(settings.cds_clients)).clients.values():
        if client.keys is not None:
            checked.append(f"{client.name}: {len(client.keys)} pinned keys")
            continue
        try:
            keys = fetch_keys(client.jwks_url, outbound)
        except (OutboundError, KeyRefusedError) as error:
            raise ValueError(f"{client.name}: no keys from {client.jwks_url} ({error})") from None
        checked.append(f"{client.name}: {len(keys)} keys from {client.jwks_url}")
    return "; ".join(checked)


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


LOOKS: Mapping[str, Look] = {"EHR clients": clients, "SMART app": smart_app, "database": database}
