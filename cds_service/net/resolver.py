"""Name resolution within a deadline: `getaddrinfo` has none of its own, and a DNS server may never answer.

Each name is resolved by one thread at a time, which all who ask for it wait for: a name whose server is silent holds
one thread, however many requests ask, and no other name waits for it.
"""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from typing import Any

MOST_NAMES = 64
"""Names that are resolved at once; above it an answer is refused rather than waited for."""
_Found = list[tuple[Any, ...]]


class Resolver:
    """Resolver().resolve("ehr.example.org", 443, time.monotonic() + 1.0)   as `socket.getaddrinfo` for TCP

    Raises OSError, as that does, and TimeoutError.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, int | None], Future[_Found]] = {}

    def resolve(self, host: str, port: int | None, deadline: float) -> _Found:
        name = (host, port)
        with self._lock:
            answer = self._asked.get(name)
            if answer is None:
                if len(self._asked) >= MOST_NAMES:
                    raise TimeoutError("too many names are being resolved")
                answer = self._asked[name] = Future()
                threading.Thread(target=self._look_up, args=(name, answer), name="resolver", daemon=True).start()
        try:
            return answer.result(max(0.0, deadline - time.monotonic()))
        except NotInTime:
            raise TimeoutError("the name was not resolved in time") from None

    def _look_up(self, name: tuple[str, int | None], answer: Future[_Found]) -> None:
        try:
            found = socket.getaddrinfo(*name, type=socket.SOCK_STREAM)
        except Exception as error:  # noqa: BLE001 - those who wait must get it, whatever it is
            self._done(name)
            answer.set_exception(error)
            return
        self._done(name)
        answer.set_result(found)

    def _done(self, name: tuple[str, int | None]) -> None:
        with self._lock:
            del self._asked[name]


RESOLVER = Resolver()
