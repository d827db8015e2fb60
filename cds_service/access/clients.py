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
        jku: [https://ehr.example.org/jwks.json]   # what the `jku` of its tokens may name besides jwks_url
"""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Lock
from typing import Any

from artifact_store import DocumentError, read_document
from cds_hooks import HookError, KeyRefusedError, TrustedIssuer
from cds_hooks.tokens import DEFAULT_ALGORITHMS, MAX_LIFETIME
from cds_service.net.gateway import Gateway, GatewayError

LOG = logging.getLogger("riskcards")
GRACE_SECONDS = 300.0
_AGAIN_SECONDS = 1.0
_Stamp = tuple[int, int, int, int] | None
_FILE_KEYS = frozenset({"clients"})


class ClientsError(ValueError):
    """The file cannot be used; the message names the client, the field and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CdsClient(TrustedIssuer):
    """A CDS client: one issuer of tokens, with the FHIR servers that may be read for it. Raises KeyRefusedError."""

    name: str
    fhir_servers: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The client as written in the file, without fields that have their default."""
        given = {known.name: getattr(self, known.name) for known in fields(self) if known.init}
        usual = {known.name: known.default for known in fields(self)}
        return {"name": self.name} | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value != usual[name]
        }


class ClientsUnavailableError(HookError):
    """No client is known: the file cannot be read for longer than it may be. A 503, for the fault is ours."""

    def __init__(self) -> None:
        super().__init__(503, "transient", "the clients of this service cannot be read", retry_after=60)


class ClientsFile:
    """ClientsFile(path).clients -> {issuer: CdsClient}; the file is read again when it changes.

    A file that can no longer be read may have been changed to shut a client out: the last clients are used for `grace`
    seconds more, then none. `fault` says what is wrong, and the log has it as ERROR.
    """

    def __init__(self, path: Path, grace: float = GRACE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._grace, self._clock = grace, clock
        self._lock = Lock()
        self._stamp = _stamp(path)
        self._clients = {client.issuer: client for client in read_clients(path)}
        self._failed = self._tried = float("-inf")
        self.fault: str | None = None

    @property
    def clients(self) -> Mapping[str, CdsClient]:
        """Clients by issuer. Raises ClientsUnavailableError if the file has been unreadable for too long."""
        with self._lock:
            stamp, now = _stamp(self.path), self._clock()
            if stamp != self._stamp or (self.fault is not None and now - self._tried >= _AGAIN_SECONDS):
                self._read(stamp, now)
            if self.fault is not None and now - self._failed >= self._grace:
                raise ClientsUnavailableError
            return self._clients

    def _read(self, stamp: _Stamp, now: float) -> None:
        self._stamp, self._tried = stamp, now
        try:
            self._clients = {client.issuer: client for client in read_clients(self.path)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the file may have been changed to shut one out
            fault = str(error) if isinstance(error, ClientsError) else f"{self.path}: {error.__class__.__name__}"
            if self.fault is None:
                self._failed = now
            if self.fault != fault:
                LOG.error("clients %s; the last ones are accepted for %.0f s, then none", fault, self._grace)
            self.fault = fault
            return
        if self.fault is not None:
            LOG.info("clients read again, %d accepted", len(self._clients))
        self.fault = None


def read_clients(path: Path) -> tuple[CdsClient, ...]:
    """The clients of a file. Raises ClientsError."""
    try:
        document = read_document(path)
    except DocumentError as error:
        raise ClientsError(f"{path}: {error}") from None
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
            raise ClientsError(f"{path}: {attribute} {twice[0]!r} occurs twice")
    return tuple(found)


def client_of(item: Any, where: str) -> CdsClient:
    """The client of one item of the file, validated. Raises ClientsError."""
    if not isinstance(item, Mapping):
        raise ClientsError(f"{where}: expected an object")
    known = {each.name for each in fields(CdsClient) if each.init}
    unknown = sorted(set(map(str, item)) - known)
    if unknown:
        raise ClientsError(f"{where}: unknown field {unknown[0]!r}; there are {', '.join(sorted(known))}")
    for name in ("name", "issuer"):
        if not isinstance(item.get(name), str) or not item[name].strip():
            raise ClientsError(f"{where}.{name}: a non-empty string is required")
    servers = _strings(item, "fhir_servers", where)
    for server in servers:
        try:
            Gateway([server])
        except GatewayError:
            raise ClientsError(
                f"{where}.fhir_servers: {server!r} is not an absolute http(s) URL without credentials and dot segments"
            ) from None
    try:
        return CdsClient(
            name=item["name"],
            issuer=item["issuer"],
            jwks=item.get("jwks"),
            jwks_url=item.get("jwks_url") or "",
            algorithms=_strings(item, "algorithms", where) or DEFAULT_ALGORITHMS,
            tenants=_strings(item, "tenants", where),
            fhir_servers=servers,
            max_lifetime=item.get("max_lifetime", MAX_LIFETIME),
            jku=_strings(item, "jku", where),
        )
    except KeyRefusedError as error:
        raise ClientsError(f"{where}: {error}") from None


def _strings(item: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = item.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ClientsError(f"{where}.{name}: expected a list of strings")
    return tuple(value)


def write_clients(path: Path, clients: Iterable[CdsClient]) -> None:
    """Replaces the file atomically, with its owner, group and mode: the service, another user, must go on reading it.

    Where a link leads to the file, the link stays. Raises ClientsError, and then nothing was changed.
    """
    document = json.dumps({"clients": [client.to_json() for client in clients]}, indent=2) + "\n"
    place = path.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        old = place.stat() if place.exists() else None
        with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as stream:
            try:
                stream.write(document)
                stream.flush()
                _own_as(stream.fileno(), old or place.parent.stat())
                os.fchmod(stream.fileno(), 0o600 if old is None else stat.S_IMODE(old.st_mode))
                os.fsync(stream.fileno())
                Path(stream.name).replace(place)
            except BaseException:
                Path(stream.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ClientsError(f"{path}: cannot be written ({error.__class__.__name__})") from None


def _own_as(file: int, old: os.stat_result) -> None:
    """Gives the file the owner and group of `old`. Raises ClientsError where we may not."""
    new = os.fstat(file)
    if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid):
        return
    try:
        os.fchown(file, old.st_uid, old.st_gid)
    except PermissionError:
        # In a folder of a group of ours the file's group may differ and nobody loses access by it.
        if new.st_uid != old.st_uid:
            raise ClientsError(
                f"the clients file belongs to user {old.st_uid}, who could not read it any more; run this as that user "
                "or as root"
            ) from None


def with_keys(client: CdsClient, jwks: Mapping[str, Any] | None, jwks_url: str) -> CdsClient:
    """The client with other keys, validated. Raises ClientsError."""
    try:
        return replace(client, jwks=jwks, jwks_url=jwks_url)
    except KeyRefusedError as error:
        raise ClientsError(f"{client.name}: {error}") from None


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
