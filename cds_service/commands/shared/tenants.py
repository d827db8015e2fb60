"""The tenants that the clients of a service may name, so that no mode is set for a misspelled one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from artifact_store import DocumentError, read_document
from cds_service.config.modes import EVERY
from cds_service.config.settings import Settings


def check_tenant(settings: Settings, tenant: str) -> None:
    """Raises UsageError for a tenant that no client of the service can name: its mode would change nothing."""
    if tenant == EVERY:
        return
    if not tenant.strip() or not tenant.isprintable() or len(tenant) > 128:
        raise click.UsageError("--tenant: expected the tenant claim of the client's tokens, or * for all")
    known = tenants_of(settings)
    if known is not None and tenant not in known:
        close = difflib.get_close_matches(tenant, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known)) or 'none'}"
        raise click.UsageError(f"--tenant: no client of the service has the tenant {tenant!r}{hint}")


def tenants_of(settings: Settings) -> frozenset[str] | None:
    """The tenants in the files of CDS and SMART clients; None where a client may name any, or a file is unreadable."""
    found: set[str] = set()
    if not settings.cds_clients:
        return None
    for place, field in ((settings.cds_clients, "tenants"), (settings.smart_clients, "tenant")):
        for client in _clients(place):
            given = client.get(field) if isinstance(client, Mapping) else None
            if field == "tenants" and not given:
                return None
            found.update([given] if isinstance(given, str) else given or ())
    return frozenset(found)


def _clients(place: str) -> list[Any]:
    try:
        document = read_document(Path(place)) if place else {"clients": []}
    except DocumentError:
        return [{}]
    listed = document.get("clients") if isinstance(document, Mapping) else document
    return listed if isinstance(listed, list) else [{}]
