"""Request heads that arrive in drips: read without a thread, with a deadline, and few from one address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cds_service.application.request_heads import LONGEST_HEAD, RequestHeads

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[Any, socket.socket]]:
    """(a connection as the worker has it, the client's end)"""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield SimpleNamespace(sock=ours), theirs
    ours.close()
    theirs.close()


def test_a_head_in_drips_is_read_without_waiting(pair: tuple[Any, socket.socket]) -> None:
    connection, client = pair
    heads = RequestHeads(4.0)
    assert heads.add(connection, "10.0.0.1") is None
    for number in range(len(HEAD) - 1):
        client.sendall(HEAD[number : number + 1])
        assert heads.read(connection) is None
        assert heads.read(connection) is None, "nothing more has come"
    client.sendall(HEAD[-1:] + b"next")
    assert heads.read(connection) == HEAD + b"next"
    assert len(heads) == 0


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"", b""),
        (b"GET /", b"GET /"),
        (b"\r\n\r\n", b"\r\n\r\n"),
        (b"\r\n\r\nGET", b"\r\n\r\nGET"),
    ],
)
def test_a_client_that_leaves_is_answered_as_far_as_it_got(
    pair: tuple[Any, socket.socket], sent: bytes, read: bytes
) -> None:
    connection, client = pair
    heads = RequestHeads(4.0)
    heads.add(connection, "10.0.0.1")
    client.sendall(sent)
    assert not sent or heads.read(connection) is None, "empty lines before a request do not end its head"
    client.shutdown(socket.SHUT_WR)
    assert heads.read(connection) == read


def test_a_head_without_end_goes_to_the_parser_which_refuses_it(pair: tuple[Any, socket.socket]) -> None:
    connection, client = pair
    heads, read = RequestHeads(4.0), None
    heads.add(connection, "10.0.0.1")
    while read is None:
        client.sendall(b"x" * 8192)
        read = heads.read(connection)
    assert LONGEST_HEAD < len(read) <= LONGEST_HEAD + 16 * 1024


def test_late_heads_are_given_up_and_of_one_address_the_oldest_go() -> None:
    """Whoever comes new from an address may be another client of the same proxy."""
    now = [0.0]
    heads = RequestHeads(4.0, most=2, clock=lambda: now[0])
    first, second, third, other = (SimpleNamespace(name=name) for name in "abcd")
    assert heads.add(first, "10.0.0.1") is None
    now[0] = 1.0
    assert heads.add(second, "10.0.0.1") is None
    assert heads.add(other, "10.0.0.2") is None
    now[0] = 2.0
    assert heads.add(third, "10.0.0.1") is first
    assert len(heads) == 3
    now[0] = 4.9
    assert heads.late() == []
    now[0] = 5.5
    assert heads.late() == [second, other]
    now[0] = 60.0
    assert heads.late() == [third]
    assert len(heads) == 0
