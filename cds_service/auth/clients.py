"""The file of CDS clients: their issuers, keys, tenants and FHIR servers.

JSON or YAML:

    clients:
      - name: general-hospital
        issuer: https://ehr.example.org
        jwks_url: https://ehr.example.org/.well-known/jwks.json     # or `jwks: {keys: [...]}`, pinned
        fhir_servers: [https://ehr.example.org/fhir/r4]
        tenants: [north, south]          # optional: then a token must name one of them
        algorithms: [ES384, RS384]       # the default
        max_lifetime: 300                # seconds a token may be valid for
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from cds_hooks import ALGORITHMS, KeyRefusedError, read_keys
from cds_hooks.keys import Keys
from cds_hooks.tokens import DEFAULT_ALGORITHMS

_FILE_KEYS = frozenset({"clients"})


class ClientsError(ValueError):
    """The file cannot be used; the message names the client, the field and what is expected."""


@dataclass(frozen=True, slots=True)
class CdsClient:
    """A CDS client: one issuer of tokens. Exactly one of `jwks` (pinned keys) and `jwks_url` is set."""

    name: str
    issuer: str
    jwks: Mapping[str, Any] | None = None
    jwks_url: str = ""
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    tenants: tuple[str, ...] = ()
    fhir_servers: tuple[str, ...] = ()
    max_lifetime: int = 300
    # The pinned keys by `kid`, parsed once; None when they are fetched.
    keys: Keys | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The client as written in the file, without fields that have their default."""
        return {
            known.name: list(value) if isinstance(value, tuple) else value
            for known in fields(self)
            if known.name != "keys" and (value := getattr(self, known.name)) != known.default
        }


class ClientsFile:
    """ClientsFile(path).clients -> {issuer: CdsClient}; the file is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = _stamp(path)
        self._clients = {client.issuer: client for client in read_clients(path)}
        self.fault: str | None = None

    @property
    def clients(self) -> Mapping[str, CdsClient]:
        """Clients by issuer. If the file has become unreadable, the last valid clients, and `fault` says why."""
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._clients = {client.issuer: client for client in read_clients(self.path)}
                self.fault = None
            except ClientsError as error:
                self.fault = str(error)
        return self._clients


def read_clients(path: Path) -> tuple[CdsClient, ...]:
    """The clients of a file. Raises ClientsError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ClientsError(f"{path}: cannot be read ({error.__class__.__name__})") from None
    try:
        document = yaml.safe_load(text)  # JSON is valid YAML
    except yaml.YAMLError as error:
        raise ClientsError(f"{path}: neither JSON nor YAML: {str(error).splitlines()[0]}") from None
    if isinstance(document, Mapping) and set(document) != _FILE_KEYS:
        raise ClientsError(f"{path}: expected one key `clients`, found {', '.join(map(str, document)) or 'none'}")
    listed = document["clients"] if isinstance(document, Mapping) else document
    if not isinstance(listed, list):
        raise ClientsError(f"{path}: clients: expected a list")
    found = [client_of(item, f"{path}: clients[{number}]") for number, item in enumerate(listed)]
    for attribute in ("name", "issuer"):
        values = [getattr(client, attribute) for client in found]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ClientsError(f"{path}: {attribute} {twice[0]!r} stands twice")
    return tuple(found)


def client_of(item: Any, where: str) -> CdsClient:
    """The client of one item of the file, validated. Raises ClientsError."""
    if not isinstance(item, Mapping):
        raise ClientsError(f"{where}: expected an object")
    known = {each.name for each in fields(CdsClient)} - {"keys"}
    unknown = sorted(set(map(str, item)) - known)
    if unknown:
        raise ClientsError(f"{where}: unknown field {unknown[0]!r}; there are {', '.join(sorted(known))}")
    for name in ("name", "issuer"):
        if not isinstance(item.get(name), str) or not item[name].strip():
            raise ClientsError(f"{where}.{name}: a non-empty string is required")
    client = CdsClient(
        name=item["name"],
        issuer=item["issuer"],
        jwks=item.get("jwks"),
        jwks_url=item.get("jwks_url") or "",
        algorithms=_strings(item, "algorithms", where) or DEFAULT_ALGORITHMS,
        tenants=_strings(item, "tenants", where),
        fhir_servers=_strings(item, "fhir_servers", where),
        max_lifetime=item.get("max_lifetime", 300),
    )
    return _checked(client, where)


def _strings(item: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = item.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ClientsError(f"{where}.{name}: expected a list of strings")
    return tuple(value)


def _checked(client: CdsClient, where: str) -> CdsClient:
    """The client with its pinned keys parsed. Raises ClientsError."""
    wrong = sorted(set(client.algorithms) - set(ALGORITHMS))
    if wrong:
        allowed = ", ".join(ALGORITHMS)
        raise ClientsError(f"{where}.algorithms: {wrong[0]!r} is not allowed; only signatures with keys: {allowed}")
    if (client.jwks is None) == (not client.jwks_url):
        raise ClientsError(f"{where}: exactly one of jwks (the keys themselves) and jwks_url is required")
    keys = None
    if client.jwks is not None:
        try:
            keys = read_keys(client.jwks)
        except KeyRefusedError as error:
            raise ClientsError(f"{where}.jwks: {error}") from None
    elif urlsplit(client.jwks_url).scheme != "https":
        raise ClientsError(f"{where}.jwks_url: an https URL is required")
    lifetime = client.max_lifetime
    if isinstance(lifetime, bool) or not isinstance(lifetime, int) or not 1 <= lifetime <= 3600:
        raise ClientsError(f"{where}.max_lifetime: 1 to 3600 seconds")
    for server in client.fhir_servers:
        if urlsplit(server).scheme not in {"http", "https"}:
            raise ClientsError(f"{where}.fhir_servers: {server!r} is not an absolute http(s) URL")
    return replace(client, keys=keys)


def write_clients(path: Path, clients: Iterable[CdsClient]) -> None:
    """Replaces the file atomically. Raises ClientsError."""
    document = json.dumps({"clients": [client.to_json() for client in clients]}, indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as stream:
            stream.write(document)
            stream.flush()
            os.fsync(stream.fileno())
        Path(stream.name).replace(path)
    except OSError as error:
        raise ClientsError(f"{path}: cannot be written ({error.__class__.__name__})") from None


def with_keys(client: CdsClient, jwks: Mapping[str, Any] | None, jwks_url: str) -> CdsClient:
    """The client with other keys, validated. Raises ClientsError."""
    return _checked(replace(client, jwks=jwks, jwks_url=jwks_url), client.name)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
