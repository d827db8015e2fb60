"""Reads `riskcards score` input from a FHIR server: one patient's chart or a bulk export, with or without login.

Errors of the server are bad input (exit 3), not internal errors (exit 1).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cds_service.commands.shared.opened import opened_settings
from fhir_mapping import InvalidInputError

if TYPE_CHECKING:
    from cds_service.smart.backend import BackendAccess


def fetched(server: str, smart_client: str | None, patient: str) -> tuple[list[dict[str, Any]], frozenset[str]]:
    """Returns one patient's resources and the types that could not be fetched. Raises InvalidInputError."""
    from cds_service.hooks.full_chart import fetch_patient_resources
    from cds_service.net.gateway import GatewayError
    from cds_service.oauth.errors import LaunchRefusedError

    networks = opened_settings().private_networks
    try:
        token = None if smart_client is None else _access(server, smart_client).token()
        return fetch_patient_resources(server, patient, token=token, private_networks=networks)
    except LaunchRefusedError as error:
        raise InvalidInputError(f"{server}: no access: {error.reason}") from None
    except GatewayError as error:
        raise InvalidInputError(f"{server}: the patient could not be read: {error}") from None


@contextmanager
def exported(server: str, smart_client: str, group: str | None) -> Iterator[Path]:
    """Yields a temporary folder with the exported patients. Raises InvalidInputError."""
    from cds_hooks import FHIR_ID
    from cds_service.commands.shared.model_sources import report_line
    from cds_service.oauth.errors import LaunchRefusedError
    from cds_service.smart.bulk_export import ExportError, export

    if group is not None and not FHIR_ID.match(group):
        raise click.UsageError("--group: expected the id of a Group")
    with tempfile.TemporaryDirectory(prefix="riskcards-export-") as folder:
        try:
            export(_access(server, smart_client), Path(folder), group=group, say=report_line)
        except LaunchRefusedError as error:
            raise InvalidInputError(f"{server}: no access: {error.reason}") from None
        except ExportError as error:
            raise InvalidInputError(f"{server}: {error}") from None
        yield Path(folder)


def _access(server: str, smart_client: str) -> BackendAccess:
    from cds_service.oauth.errors import SmartSetupError
    from cds_service.smart.backend import BackendAccess, find_backend

    settings = opened_settings()
    if not settings.smart_clients:
        raise click.UsageError("--smart-client needs RISKCARDS_SMART_CLIENTS; see docs/settings.md")
    try:
        found = find_backend(Path(settings.smart_clients), smart_client, server, settings.private_networks)
    except SmartSetupError as error:
        raise click.UsageError(str(error)) from None
    return BackendAccess(found)
