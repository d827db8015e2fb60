"""Who may see the demo's charts: requests to an allowed Host and, for patients that are not ours, with a secret.

A website in the same browser reaches a demo on this machine as easily as its user does: by a name of its own that
resolves to 127.0.0.1, and, with permissive CORS, directly.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from flask import Response, redirect, request

from cds_hooks import HookError
from cds_hooks.blueprint import error_response

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_KEY = "key"
# The service itself asks these, without a browser: they give nothing without a secret of their own.
_MACHINES = ("/demo/fhir/", "/demo/auth/token", "/demo/auth/jwks")


def new_secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class DemoGuard:
    """app.before_request(DemoGuard("http://127.0.0.1:8080", secret=new_secret()).check)

    `hosts` are further names under which the demo may be reached. Without `secret` only the Host is checked.
    """

    address: str
    hosts: frozenset[str] = frozenset()
    secret: str = field(default="", repr=False)

    def check(self) -> Response | None:
        """The answer to a request that may not go on; None for one that may."""
        if not self._is_allowed(request.host):
            # Unlike other answers this one names no part of the request.
            reason = "this demo is not served under that host name; start it with --allow-host NAME to allow one"
            return error_response(HookError(421, "forbidden", reason))
        if not self.secret or not request.path.startswith("/demo") or request.path.startswith(_MACHINES):
            return None
        if self._is_secret(request.cookies.get(self.cookie, "")):
            return None
        if self._is_secret(request.args.get(_KEY, "")):
            # The secret leaves the address bar, the history and the Referer.
            response = redirect(request.path, 303)
            response.set_cookie(self.cookie, self.secret, path="/demo", httponly=True, samesite="Strict")
            return response  # type: ignore[return-value]
        return error_response(HookError(403, "login", "open the address that `riskcards demo` printed, with its key"))

    @property
    def cookie(self) -> str:
        """Named after the port: cookies do not tell ports apart, and two demos may run."""
        return f"riskcards-demo-{urlsplit(self.address).port or 80}"

    def link(self, path: str) -> str:
        """The address to open first."""
        return f"{self.address}{path}" + (f"?{_KEY}={self.secret}" if self.secret else "")

    def _is_secret(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.secret.encode())

    def _is_allowed(self, host: str) -> bool:
        name, bound = host_name(host), urlsplit(self.address).hostname or ""
        if name in _LOOPBACK | self.hosts | {bound}:
            return True
        # A rebinding name is never an address. Bound to every interface, the demo is reached by any of its addresses.
        return bound not in _LOOPBACK and (_is_address(name) or name == socket.gethostname().lower())


def host_name(host: str) -> str:
    """The name or address in a Host header, in lower case, without port and brackets; "" for a malformed one.

    >>> host_name("Localhost:8080"), host_name("[::1]:8080"), host_name("a@b"), host_name("localhost.")
    ('localhost', '::1', '', 'localhost.')
    """
    try:
        parts = urlsplit(f"//{host}")
        return "" if "@" in host or parts.path or parts.query else (parts.hostname or "")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def allowed_hosts(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in names if name.strip())
