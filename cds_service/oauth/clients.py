"""The file of SMART clients: the FHIR servers at which the app is registered, and its credentials there.

JSON or YAML:

    clients:
      - name: general-hospital
        iss: https://ehr.example.org/fhir/r4        # the FHIR base URL, as launches name it
        client_id: riskcards
        type: asymmetric                            # public | symmetric | asymmetric
        private_keys: [/etc/riskcards/smart.pem]    # asymmetric: EC P-384 or RSA; the first signs, all are published
        client_secret_file: /etc/riskcards/secret   # symmetric: this, or client_secret_env: NAME_OF_A_VARIABLE
        hosts: [auth.example.org]                   # hosts of its authorization server besides that of iss
        frame_ancestors: [https://ehr.example.org]  # which pages may show the app inside them
        tenant: north                               # optional: the tenant whose modes hold for the app launched there
        scopes: [launch, patient/*.rs]              # optional; the default asks for what the app reads, and no more
        subscription_secret_file: /etc/riskcards/s  # optional: the secret that its notifications carry, one a line
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from artifact_store import DocumentError, read_document
from cds_service.oauth.errors import SmartSetupError
from cds_service.oauth.keys import SigningKey, read_signing_key

TYPES = ("public", "symmetric", "asymmetric")
_LISTS = ("private_keys", "hosts", "frame_ancestors", "scopes")
_WORDS = (
    "name", "iss", "client_id", "type", "client_secret_file", "client_secret_env", "tenant", "subscription_secret_file",
)  # fmt: skip
SHORTEST_SECRET = 32
"""Characters of a subscription secret: it is all that stands between anybody and the receiver."""
_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d{1,5})?\Z")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class SmartClient:
    """The app's registration at one FHIR server, with exactly the credential that its type needs."""

    name: str
    iss: str
    client_id: str
    type: str = "public"
    secret: str | None = field(default=None, repr=False)
    keys: tuple[SigningKey, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    tenant: str | None = None
    subscription_secrets: tuple[str, ...] = field(default=(), repr=False)

    def trusts(self, url: str) -> bool:
        """Whether an endpoint may be at this URL: a host of this client, with https if the FHIR server uses https.

        >>> SmartClient("n", "https://ehr.example/fhir", "id").trusts("https://ehr.example/token")
        True
        >>> SmartClient("n", "https://ehr.example/fhir", "id").trusts("https://ehr.example.evil.example/token")
        False
        """
        try:
            parts, own = urlsplit(url), urlsplit(self.iss)
            place = _place(url)
        except ValueError:
            return False
        if parts.username is not None or parts.fragment or any(ord(sign) <= 32 for sign in url) or "\\" in url:
            return False
        secure = parts.scheme == "https" or (parts.scheme, own.scheme) == ("http", "http")
        allowed = {_place(self.iss), *(_place(f"{own.scheme}://{host}") for host in self.hosts)}
        return secure and place in allowed


def canonical(iss: str) -> str:
    """An `iss` for comparison, without a slash at its end."""
    return iss.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether this is plain http to localhost, as in development and the demo."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in _LOOPBACK


def read_smart_clients(path: Path, env: Mapping[str, str] | None = None) -> Mapping[str, SmartClient]:
    """The clients by canonical `iss`, with their secrets and keys read. Raises SmartSetupError."""
    try:
        document = read_document(path)
    except DocumentError as error:
        raise SmartSetupError(f"{path}: {error}") from None
    listed = document.get("clients") if isinstance(document, Mapping) and set(document) == {"clients"} else None
    if not isinstance(listed, list):
        raise SmartSetupError(f"{path}: expected one key `clients` with a list")
    found: dict[str, SmartClient] = {}
    names: set[str] = set()
    for number, item in enumerate(listed):
        where = f"{path}: clients[{number}]"
        client = _client(item, where, os.environ if env is None else env)
        if canonical(client.iss) in found or client.name in names:
            raise SmartSetupError(f"{where}: the name or the iss occurs twice")
        found[canonical(client.iss)] = client
        names.add(client.name)
    return found


def _client(item: Any, where: str, env: Mapping[str, str]) -> SmartClient:
    if not isinstance(item, Mapping):
        raise SmartSetupError(f"{where}: expected an object")
    unknown = sorted(set(map(str, item)) - {*_LISTS, *_WORDS})
    if unknown:
        raise SmartSetupError(f"{where}: unknown field {unknown[0]!r}; there are {', '.join((*_WORDS, *_LISTS))}")
    for name in ("name", "iss", "client_id"):
        if not isinstance(item.get(name), str) or not item[name].strip():
            raise SmartSetupError(f"{where}.{name}: a non-empty string is required")
    if "tenant" in item and (not isinstance(item["tenant"], str) or not item["tenant"].strip()):
        raise SmartSetupError(f"{where}.tenant: a non-empty string is required")
    kind = item.get("type", "public")
    if kind not in TYPES:
        raise SmartSetupError(f"{where}.type: {kind!r} is none of {', '.join(TYPES)}")
    lists = {name: _words(item, name, where) for name in _LISTS}
    _check_places(item["iss"], lists, where)
    credentials = {name for name in ("client_secret_file", "client_secret_env", "private_keys") if item.get(name)}
    wanted = {"public": 0, "symmetric": 1, "asymmetric": 1}[kind]
    if len(credentials) != wanted or (credentials == {"private_keys"}) != (kind == "asymmetric"):
        raise SmartSetupError(
            f"{where}: a public client has no credential, a symmetric one client_secret_file or client_secret_env, "
            "an asymmetric one private_keys"
        )
    return SmartClient(
        name=item["name"],
        iss=item["iss"],
        client_id=item["client_id"],
        type=kind,
        secret=_secret(item, where, env) if kind == "symmetric" else None,
        keys=tuple(read_signing_key(Path(name), f"{where}.private_keys") for name in lists["private_keys"]),
        hosts=lists["hosts"],
        frame_ancestors=lists["frame_ancestors"],
        scopes=lists["scopes"],
        tenant=item.get("tenant"),
        subscription_secrets=_subscription_secrets(item, where),
    )


def _check_places(iss: str, lists: Mapping[str, tuple[str, ...]], where: str) -> None:
    try:
        parts = urlsplit(iss)
        good = bool(parts.hostname and parts.port != 0) and (parts.scheme == "https" or is_loopback(iss))
    except ValueError:
        good = False
    if not good or urlsplit(iss).query or urlsplit(iss).fragment or urlsplit(iss).username is not None:
        raise SmartSetupError(f"{where}.iss: {iss!r} is not an https URL (http only for this machine)")
    for host in lists["hosts"]:
        if not _HOST.match(host):
            raise SmartSetupError(f"{where}.hosts: {host!r} is not a host, such as auth.example.org")
    for origin in lists["frame_ancestors"]:
        # They are written into a response header, so each must be an origin and nothing else.
        if not re.fullmatch(r"https?://(\*\.)?[A-Za-z0-9.\-]+(:\d{1,5})?", origin):
            raise SmartSetupError(f"{where}.frame_ancestors: {origin!r} is not an origin, such as https://ehr.example")


def _words(item: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    given = item.get(name) or []
    if not isinstance(given, list) or not all(isinstance(word, str) and word.strip() for word in given):
        raise SmartSetupError(f"{where}.{name}: expected a list of strings")
    return tuple(given)


def _subscription_secrets(item: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The secrets of a file, one to a line: while one is replaced, both are taken."""
    if not item.get("subscription_secret_file"):
        return ()
    path = Path(str(item["subscription_secret_file"]))
    try:
        secrets = tuple(line.strip() for line in path.read_text("ascii").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise SmartSetupError(
            f"{where}.subscription_secret_file: {path} cannot be read ({type(error).__name__})"
        ) from None
    if not secrets or any(len(secret) < SHORTEST_SECRET for secret in secrets):
        raise SmartSetupError(
            f"{where}.subscription_secret_file: {path}: expected secrets of at least {SHORTEST_SECRET} characters, one "
            "a line, such as `openssl rand -hex 32` prints"
        )
    return secrets


def _secret(item: Mapping[str, Any], where: str, env: Mapping[str, str]) -> str:
    if variable := item.get("client_secret_env"):
        secret = env.get(str(variable), "")
        if not secret:
            raise SmartSetupError(f"{where}.client_secret_env: {variable} is not set in the environment")
        return secret
    path = Path(str(item["client_secret_file"]))
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SmartSetupError(f"{where}.client_secret_file: {path} cannot be read ({type(error).__name__})") from None
    if not secret:
        raise SmartSetupError(f"{where}.client_secret_file: {path} is empty")
    return secret


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
