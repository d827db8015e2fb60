"""Who may ask for `/metrics` and `/health/ready`: they cost work, and say how many patients a service has seen.

Open to anyone only while the service is: without clients, or where its public address is this machine. Otherwise they
are answered at the address of `riskcards serve --admin`, or with the bearer token of RISKCARDS_OPERATOR_TOKEN_FILE.
`/health/live` does no work and is open.
"""

from __future__ import annotations

import hmac
import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

import click
from flask import Request

from cds_hooks import HookError
from cds_service.config.settings import Settings
from cds_service.oauth.clients import is_loopback

LOG = logging.getLogger("riskcards")
ADMIN_ENV = "_RISKCARDS_ADMIN_ADDRESS"
"""Set by `riskcards serve --admin` for its workers; no setting."""
ADMIN_PATHS = ("/metrics", "/health/")


def check_operator(settings: Settings, request: Request) -> None:
    """Raises HookError 401 for a request that is not an operator's."""
    if not settings.cds_clients or is_loopback(settings.public_url) or at_admin_address(request):
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    token = _token(settings)
    if token and scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return
    reason = "ask at the address of `riskcards serve --admin`, or with the token of RISKCARDS_OPERATOR_TOKEN_FILE"
    raise HookError(401, "login", reason)


def keep_to_admin_paths(request: Request) -> None:
    """Raises HookError 404 for anything but health and metrics at the admin address."""
    if at_admin_address(request) and not request.path.startswith(ADMIN_PATHS):
        raise HookError(404, "not-found", "this address has /metrics and /health only")


def at_admin_address(request: Request) -> bool:
    """Whether the request came in at the admin address: the port of its socket, never the Host header."""
    admin = os.environ.get(ADMIN_ENV)
    if not admin or "gunicorn.socket" not in request.environ:
        return False
    return bool(request.environ["gunicorn.socket"].getsockname()[1] == admin_address(admin)[1])


def admin_address(given: str) -> tuple[str, int]:
    """Host and port. Raises UsageError."""
    try:
        parts = urlsplit(f"//{given}")
        if parts.hostname and parts.port and not (parts.path or parts.username or parts.query):
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise click.UsageError(f"--admin: {given!r}; expected HOST:PORT such as 127.0.0.1:8081")


def _token(settings: Settings) -> str:
    if not settings.operator_token_file:
        return ""
    try:
        return Path(settings.operator_token_file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        LOG.error("RISKCARDS_OPERATOR_TOKEN_FILE cannot be read: %s", error.__class__.__name__)
        return ""
