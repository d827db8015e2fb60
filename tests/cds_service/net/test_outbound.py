"""Outbound requests to hostile servers: private addresses, DNS rebinding, slow answers, decompression bombs."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from select import select
from typing import Any

import pytest

from cds_service.net.outbound import Networks, Outbound, OutboundError
from tests.patience import PATIENT

ADDRESSES = [
    ("8.8.8.8", True),
    ("2606:4700::1111", True),
    ("127.0.0.1", False),
    ("10.1.2.3", False),
    ("169.254.169.254", False),
    ("100.64.0.1", False),
    ("0.0.0.0", False),
    ("224.0.0.1", False),
    ("255.255.255.255", False),
    ("::1", False),
    ("fe80::1", False),
    ("fc00::1", False),
    ("ff02::1", False),
    ("::ffff:127.0.0.1", False),
    ("::ffff:10.0.0.1", False),
    ("64:ff9b::7f00:1", False),
    ("64:ff9b::a9fe:a9fe", False),
    ("2002:7f00:1::", False),
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", False),
]


@pytest.mark.parametrize(("address", "allowed"), ADDRESSES)
def test_only_public_addresses_unless_named(address: str, allowed: bool) -> None:
    assert Networks().allow(ipaddress.ip_address(address)) is allowed
    assert Networks.of([f"{address}/{32 if '.' in address and ':' not in address else 128}"]).allow(
        ipaddress.ip_address(address)
    )


@contextmanager
def raw_server(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server with a thread for each connection; `behave` gets the socket after the request has arrived."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                behave(connection)
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    stop.set()
    listener.close()


def ask(port: int, seconds: float = PATIENT, host: str = "127.0.0.1", networks: Networks | None = None) -> Any:
    outbound = Outbound(networks or Networks.of(["127.0.0.0/8"]))
    deadline = time.monotonic() + seconds
    return outbound.request("GET", f"http://{host}:{port}/x", deadline=deadline, max_bytes=100_000)


def _drip(head: bytes, each: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.sendall(head)
        while not select([connection], [], [], 0.05)[0]:  # until the other side closes
            connection.sendall(each)

    return behave


def _answer(body: bytes, *headers: bytes) -> Callable[[socket.socket], None]:
    head = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers])
    return lambda connection: connection.sendall(head + b"\r\n\r\n" + body)


BOMB = gzip.compress(b"\0" * 50_000_000)
HOSTILE: list[tuple[str, Callable[[socket.socket], None], str]] = [
    ("headers byte by byte", _drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"), "too-slow"),
    ("body byte by byte", _drip(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"x"), "too-slow"),
    ("nothing at all", lambda connection: connection.recv(1), "too-slow"),
    ("closes at once", lambda connection: None, "unreachable"),
    ("not HTTP", lambda connection: connection.sendall(b"SSH-2.0-x\r\n"), "unreachable"),
    ("too large", _answer(b"x" * 200_000), "too-large"),
    ("gzip bomb", _answer(BOMB, b"Content-Encoding: gzip"), "too-large"),
    ("gzip that is none", _answer(b"hello", b"Content-Encoding: gzip"), "not-understood"),
    ("gzip cut off", _answer(gzip.compress(b"hello" * 100)[:-9], b"Content-Encoding: gzip"), "cut-off"),
    ("unknown coding", _answer(b"hello", b"Content-Encoding: br"), "not-understood"),
    ("less than promised", lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx"), "unreachable"),
]


@pytest.mark.parametrize(("name", "behave", "reason"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_a_hostile_server_cannot_exceed_the_deadline(
    name: str, behave: Callable[[socket.socket], None], reason: str
) -> None:
    with raw_server(behave) as port, pytest.raises(OutboundError) as caught:
        ask(port, 0.5 if reason == "too-slow" else PATIENT)
    assert caught.value.reason == reason


def test_answers_are_decompressed_and_redirects_not_followed() -> None:
    with raw_server(_answer(gzip.compress(b"hello"), b"Content-Encoding: gzip")) as port:
        assert ask(port).body == b"hello"
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with raw_server(lambda connection: connection.sendall(moved)) as port:
        assert ask(port).status == 302


def test_names_of_private_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if only one of its addresses is private, and if the name resolves differently the second time."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        answers = [("127.0.0.1", port)] if len(asked) % 2 == 0 else [("93.184.216.34", port), ("10.0.0.5", port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", answer) for answer in answers]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for _ in range(4):
        with pytest.raises(OutboundError, match="address-not-allowed"):
            ask(80, host="ehr.example", networks=Networks())
    assert len(asked) == 4


def test_the_name_is_resolved_once_and_that_address_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(_answer(b"hello")) as port:
        asked: list[str] = []

        def resolve(host: str, number: int, **_: Any) -> list[Any]:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert ask(port, host="ehr.example").body == b"hello"
    assert asked == ["ehr.example"]


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "http://user@x/", "x", "file:///etc/passwd", "http://[::1"])
def test_malformed_urls_are_refused(url: str) -> None:
    with pytest.raises(OutboundError):
        Outbound().request("GET", url, deadline=time.monotonic() + PATIENT, max_bytes=10)


def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with raw_server(_answer(b"direct")) as port:
        assert ask(port).body == b"direct"
