"""Outbound HTTP: each socket is opened here, to a checked address, and closed at its deadline.

A name is resolved once, each of its addresses is checked, and the connection goes to one of them: a DNS answer that
changes between check and use (DNS rebinding) has no effect. No redirects, no proxy from the environment, and limited
body sizes after decompression.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from cds_service.net.resolver import RESOLVER

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_CHUNK = 65_536
# urllib3 writes each URL at DEBUG, and some at WARNING: a FHIR URL holds a patient's id, whatever level a site logs at.
logging.getLogger("urllib3").setLevel(logging.CRITICAL)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class OutboundError(Exception):
    """The request was not made, or gave no usable answer. `reason` is a stable code without patient data."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class OutboundResponse:
    """An answer: status, headers by lower-case name, the whole decoded body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Sink(Protocol):
    """Takes a body in chunks; an exception that it raises ends the exchange."""

    def write(self, chunk: bytes, /) -> object: ...


def faces(address: IPAddress) -> tuple[IPAddress, ...]:
    """An address and every IPv4 address it wraps (mapped, 6to4, Teredo, NAT64): all of them must be allowed.

    >>> faces(ipaddress.ip_address("::ffff:10.0.0.1"))[1]
    IPv4Address('10.0.0.1')
    >>> faces(ipaddress.ip_address("64:ff9b::7f00:1"))[1]
    IPv4Address('127.0.0.1')
    """
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    wrapped: list[IPAddress | None] = [address.ipv4_mapped, address.sixtofour]
    if address.teredo:
        wrapped += address.teredo
    if address in _NAT64:
        wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return (address, *(found for found in wrapped if found is not None))


@dataclass(frozen=True, slots=True)
class Networks:
    """The addresses that may be reached: the public internet, and the private networks of the settings."""

    private: tuple[IPNetwork, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str]) -> Networks:
        """From CIDR strings such as "10.20.0.0/16". Raises ValueError naming the invalid one."""
        return cls(tuple(ipaddress.ip_network(name) for name in names))

    def also(self, host: str) -> Networks:
        """These networks and a host that the configuration names by its literal address."""
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            return Networks((*self.private, *_LOOPBACK)) if host == "localhost" else self
        return Networks((*self.private, ipaddress.ip_network(literal)))

    def allow(self, address: IPAddress) -> bool:
        """
        >>> Networks().allow(ipaddress.ip_address("8.8.8.8")), Networks().allow(ipaddress.ip_address("10.0.0.1"))
        (True, False)
        >>> Networks.of(["10.0.0.0/8"]).allow(ipaddress.ip_address("10.0.0.1"))
        True
        """
        if any(address in network for network in self.private):
            return True
        return all(_is_public(face) for face in faces(address))


# Not in every version of Python's own list: site-local (RFC 3879), 6to4 relays (RFC 7526), documentation (RFC 9637),
# segment routing (RFC 9602), local NAT64 (RFC 8215), IPv4-compatible (RFC 4291).
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        ("fec0::/10", "192.88.99.0/24", "3fff::/20", "5f00::/16", "64:ff9b:1::/48", "::/96", "100::/64"),
    )
)


def _is_public(address: IPAddress) -> bool:
    """
    >>> [_is_public(ipaddress.ip_address(a)) for a in ("2606:4700::1111", "fec0::1", "fd00::1", "::10.0.0.1")]
    [True, False, False, False]
    """
    known = address.is_global and not (address.is_multicast or address.is_reserved)
    return known and not any(address in network for network in _NOT_PUBLIC)


_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Outbound:
    """Outbound(networks).request("GET", url, headers=..., deadline=time.monotonic() + 3, max_bytes=2**20) -> Answer"""

    def __init__(self, networks: Networks | None = None) -> None:
        self._networks = networks or Networks()
        self._pools: dict[tuple[str, str, int], urllib3.HTTPConnectionPool] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        into: Sink | None = None,
    ) -> OutboundResponse:
        """The answer to one request; `deadline` is of `time.monotonic()`. The body of a 200 goes to `into`, if given.

        Raises OutboundError; `into` may then have a part of the body.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise OutboundError("too-slow")
        pool, target = self._pool(url)
        wanted = {"Accept-Encoding": "gzip", **(headers or {})}
        try:
            with _cut_at(deadline):
                response = pool.urlopen(
                    method, target, body=body, headers=wanted, redirect=False, retries=False, timeout=left,
                    preload_content=False, decode_content=False,
                )  # fmt: skip
                try:
                    found = bytearray()
                    keep = into.write if into is not None and response.status == 200 else found.extend
                    for chunk in _chunks(response, deadline, max_bytes):
                        keep(chunk)
                except BaseException:
                    response.close()
                    raise
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _failed(error, time.monotonic() >= deadline) from None
        return OutboundResponse(
            response.status, {name.lower(): value for name, value in response.headers.items()}, bytes(found)
        )

    def _pool(self, url: str) -> tuple[urllib3.HTTPConnectionPool, str]:
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise OutboundError("not-a-server-url") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise OutboundError("not-a-server-url")
        key = (parts.scheme, parts.hostname, port)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                kind = _CheckedHTTPSPool if parts.scheme == "https" else _CheckedHTTPPool
                pool = kind(key[1], key[2], maxsize=4, block=False, networks=self._networks)
                self._pools[key] = pool
        return pool, f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def _failed(error: Exception, late: bool) -> OutboundError:
    """The error of an exchange that failed. A certificate has its own reason: its remedy is no network's."""
    refused = error.args[0] if error.args and isinstance(error.args[0], ssl.SSLCertVerificationError) else None
    if refused is not None:
        # OpenSSL's own words, without names: "unable to get local issuer certificate".
        return OutboundError("certificate", refused.verify_message)
    return OutboundError("too-slow" if late else "unreachable", error.__class__.__name__)


def _chunks(response: urllib3.BaseHTTPResponse, deadline: float, max_bytes: int) -> Iterator[bytes]:
    """The body in chunks, decompressed up to the limit: a small gzip may expand to gigabytes."""
    coding = response.headers.get("Content-Encoding", "identity").lower()
    if coding not in {"identity", "gzip"}:
        raise OutboundError("not-understood", "Content-Encoding")
    unpack = zlib.decompressobj(31) if coding == "gzip" else None
    length = 0
    while chunk := response.read1(_CHUNK, decode_content=False):
        plain = unpack.decompress(chunk, max_bytes + 1 - length) if unpack else chunk
        length += len(plain)
        if length > max_bytes:
            raise OutboundError("too-large")
        yield plain
        if time.monotonic() >= deadline:
            raise OutboundError("too-slow")
    if time.monotonic() >= deadline:
        # An answer that was cut within its headers still looks complete.
        raise OutboundError("too-slow")
    if unpack is not None and not unpack.eof:
        raise OutboundError("cut-off")


# The connection that a thread waits on, for its deadline to close: a server that sends its headers byte by byte renews
# the socket's own timeout with each byte.
_WAITING = threading.local()


@contextmanager
def _cut_at(deadline: float) -> Iterator[None]:
    holder: dict[str, HTTPConnection] = {}

    def cut() -> None:
        connection = holder.get("connection")
        if connection is not None and connection.sock is not None:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    _WAITING.holder = holder
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except zlib.error:
        raise OutboundError("not-understood", "gzip") from None
    finally:
        timer.cancel()
        _WAITING.holder = {}


class _CheckedHTTP(HTTPConnection):
    """Connects to a checked address, and registers the socket with its thread's deadline."""

    networks = Networks()

    def _new_conn(self) -> socket.socket:
        return _connect(self.host, self.port, self.timeout, self.networks)

    def getresponse(self) -> Any:
        _WAITING.holder["connection"] = self
        return super().getresponse()


class _CheckedHTTPS(HTTPSConnection):
    networks = Networks()

    def _new_conn(self) -> socket.socket:
        return _connect(self.host, self.port, self.timeout, self.networks)

    def getresponse(self) -> Any:
        _WAITING.holder["connection"] = self
        return super().getresponse()


def _connect(host: str, port: int | None, timeout: Any, networks: Networks) -> socket.socket:
    deadline = time.monotonic() + float(timeout)
    try:
        found = RESOLVER.resolve(host.strip("[]"), port, deadline)
    except TimeoutError:
        raise OutboundError("too-slow", "name resolution") from None
    except (OSError, UnicodeError):
        raise OutboundError("not-resolved") from None
    for *_, place in found:
        if not networks.allow(ipaddress.ip_address(str(place[0]).partition("%")[0])):
            # One private address among public ones is refused too: a rebinding name looks like that.
            raise OutboundError("address-not-allowed")
    family, kind, protocol, _, place = found[0]
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        connection.connect(place)
        connection.settimeout(timeout)
    except BaseException:
        connection.close()
        raise
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class _CheckedHTTPPool(urllib3.HTTPConnectionPool):
    def __init__(self, host: str, port: int, *, networks: Networks, **rest: Any) -> None:
        self.ConnectionCls = type("_Connection", (_CheckedHTTP,), {"networks": networks})
        super().__init__(host, port, **rest)


class _CheckedHTTPSPool(urllib3.HTTPSConnectionPool):
    def __init__(self, host: str, port: int, *, networks: Networks, **rest: Any) -> None:
        self.ConnectionCls = type("_Connection", (_CheckedHTTPS,), {"networks": networks})
        super().__init__(host, port, **rest)
