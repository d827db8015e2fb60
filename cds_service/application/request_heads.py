"""Connections whose request head is incomplete: read without a thread, each until a deadline, few from one address.

A client that drips its headers (Slowloris) would otherwise hold a thread for as long as it may take; 800 of them took
all, and hooks waited.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MOST_OF_AN_ADDRESS = 256
"""Incomplete heads from one address. A proxy that buffers requests has hardly one at a time."""
LONGEST_HEAD = 128 * 1024
"""Bytes; the parser refuses a longer one."""
_CHUNK = 16 * 1024


@dataclass(eq=False, slots=True)
class _Head:
    connection: Any
    address: str
    due: float
    read: bytearray = field(default_factory=bytearray)

    @property
    def whole(self) -> bool:
        """Whether a parser will not wait for more of it. Empty lines before a request do not end it."""
        return b"\r\n\r\n" in self.read.lstrip(b"\r\n") or len(self.read) > LONGEST_HEAD


class RequestHeads:
    """heads.add(connection, address) -> one to close, or None; heads.read(connection) -> the head once it is whole

    Used by the main thread of a worker alone.
    """

    def __init__(
        self, seconds: float, most: int = MOST_OF_AN_ADDRESS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._heads: dict[int, _Head] = {}
        self._of_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._heads)

    def add(self, connection: Any, address: str) -> Any | None:
        """Adds one. Of an address that has as many as it may, the oldest is forgotten and returned, to be closed.

        A whole head takes milliseconds to arrive: the oldest is the slowest, and the newest may be anybody behind the
        same proxy.
        """
        gone = None
        if self._of_address[address] >= self._most:
            oldest = next(head for head in self._heads.values() if head.address == address)
            self._drop(oldest)
            gone = oldest.connection
        self._of_address[address] += 1
        self._heads[id(connection)] = _Head(connection, address, self._clock() + self._seconds)
        return gone

    def read(self, connection: Any) -> bytes | None:
        """Reads what has arrived: None while more is to come, b"" for a client that left without a word.

        A client that has sent its last byte is answered as far as it got: what it sent is no request.
        """
        head = self._heads[id(connection)]
        try:
            came = connection.sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            came, head.read = b"", bytearray()
        head.read += came
        if came and not head.whole:
            return None
        self._drop(head)
        return bytes(head.read)

    def late(self) -> list[Any]:
        """The connections past their deadline, which are forgotten: to be closed."""
        now = self._clock()
        found = []
        for head in list(self._heads.values()):  # in the order of their deadlines
            if head.due > now:
                break
            self._drop(head)
            found.append(head.connection)
        return found

    def _drop(self, head: _Head) -> None:
        del self._heads[id(head.connection)]
        self._of_address[head.address] -= 1
        if not self._of_address[head.address]:
            del self._of_address[head.address]
