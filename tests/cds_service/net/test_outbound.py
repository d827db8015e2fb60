"""Outbound requests to hostile servers: private addresses, DNS rebinding, slow answers, decompression bombs."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from select import select
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cds_service.net.addresses import client_address
from cds_service.net.outbound import Networks, Outbound, OutboundError
from cds_service.net.resolver import MOST_NAMES, Resolver
from tests.patience import PATIENT, until

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
    ("fec0::1", False),
    ("feff:ffff::1", False),
    ("::10.0.0.1", False),
    ("::8.8.8.8", False),
    ("64:ff9b:1::a00:1", False),
    ("192.88.99.1", False),
    ("3fff::1", False),
    ("5f00::1", False),
    ("2001:db8::1", False),
]


@pytest.mark.parametrize(("address", "allowed"), ADDRESSES)
def test_only_public_addresses_unless_named(address: str, allowed: bool) -> None:
    assert Networks().allow(ipaddress.ip_address(address)) is allowed
    assert Networks.of([f"{address}/{32 if '.' in address and ':' not in address else 128}"]).allow(
        ipaddress.ip_address(address)
    )


@contextmanager
def raw_server(behave: Callable[[socket.socket], None], *, reads: bool = True) -> Iterator[int]:
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
                if reads:
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


def test_a_name_server_that_never_answers_costs_its_deadline_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """`getaddrinfo` has no timeout: sixteen requests for such a name stopped every hook."""
    answered, asked = threading.Event(), []
    real = socket.getaddrinfo

    def silent(host: str, *rest: Any, **more: Any) -> Any:
        if host != "silent.example":
            return real(host, *rest, **more)
        asked.append(host)
        assert answered.wait(PATIENT)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    outbound = Outbound(Networks.of(["127.0.0.0/8"]))
    reasons: list[str] = []

    def ask() -> None:
        try:
            outbound.request("GET", "http://silent.example/", deadline=time.monotonic() + 0.2, max_bytes=10)
        except OutboundError as error:
            reasons.append(error.reason)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    assert reasons == ["too-slow"] * 20
    assert len(asked) == 1, "one thread waits for the name, whoever asks"
    with raw_server(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as port:
        url = f"http://localhost:{port}/"
        answer = outbound.request("GET", url, deadline=time.monotonic() + PATIENT, max_bytes=10)
    assert answer.body == b"ok"
    answered.set()


def test_as_many_silent_names_as_may_be_asked_for_do_not_make_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(PATIENT) and [])
    resolver = Resolver()
    for number in range(MOST_NAMES + 5):
        with pytest.raises(TimeoutError):
            resolver.resolve(f"{number}.example", 443, time.monotonic())
    assert len(resolver._asked) == MOST_NAMES
    answered.set()
    assert until(lambda: not resolver._asked)


@pytest.mark.parametrize(
    ("remote", "forwarded", "trusted", "address"),
    [
        ("198.51.100.1", "", (), "198.51.100.1"),
        ("198.51.100.1", "6.6.6.6", (), "198.51.100.1"),
        ("10.0.0.1", "203.0.113.7", ("10.0.0.0/8",), "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2", ("10.0.0.0/8",), "203.0.113.7"),
        ("10.0.0.1", "unknown", ("10.0.0.0/8",), "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3", ("10.0.0.0/8",), "10.0.0.3"),
        ("::1", "2001:db8::7", ("::1/128",), "2001:db8::7"),
    ],
)
def test_the_address_behind_our_own_proxies(
    remote: str, forwarded: str, trusted: tuple[str, ...], address: str
) -> None:
    assert client_address(remote, forwarded, trusted) == address


def test_a_private_authority_is_named_and_can_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown certificate was "unreachable: SSLError"; `SSL_CERT_FILE` adds a hospital's own authority."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A hospital's authority")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "tls.pem").write_bytes(private + made.public_bytes(Encoding.PEM))
    (tmp_path / "authority.pem").write_bytes(made.public_bytes(Encoding.PEM))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "tls.pem")

    def behave(connection: socket.socket) -> None:
        with tls.wrap_socket(connection, server_side=True) as safe:
            safe.recv(65_536)
            safe.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with raw_server(behave, reads=False) as port:
        url, networks = f"https://127.0.0.1:{port}/jwks", Networks.of(["127.0.0.0/8"])
        with pytest.raises(OutboundError) as caught:
            Outbound(networks).request("GET", url, deadline=time.monotonic() + PATIENT, max_bytes=9)
        assert caught.value.reason == "certificate"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        answer = Outbound(networks).request("GET", url, deadline=time.monotonic() + PATIENT, max_bytes=9)
        assert answer.body == b"ok"
