"""Who may come in when it is crowded: bounded work, bounded waiting, bounded bytes, a rate for each client.

A request that cannot be served soon is told so at once (503 with Retry-After), instead of waiting until its EHR has
given up on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from cds_hooks import HookError

RETRY_SECONDS = 2
_READERS = 4


class Admission:
    """with Admission(active=2, waiting=16, seconds=2.0, held_bytes=2**26).enter(): ...   Raises HookError 503."""

    def __init__(self, active: int, waiting: int, seconds: float, held_bytes: int) -> None:
        self._active, self._waiting, self._seconds, self._bytes = active, waiting, seconds, held_bytes
        self._inside = self._queued = self._held = self._holders = 0
        self._room = Condition(Lock())

    @contextmanager
    def enter(self, until: float | None = None) -> Iterator[None]:
        """One of `active` places, waited for at most `seconds` behind at most `waiting` others.

        And not past `until` (of `time.monotonic()`), when whoever asked has given up.
        """
        patience = self._seconds if until is None else min(self._seconds, max(0.0, until - time.monotonic()))
        with self._room:
            if self._inside >= self._active and self._queued >= self._waiting:
                raise _busy("too many requests are waiting")
            self._queued += 1
            try:
                if not self._room.wait_for(lambda: self._inside < self._active, patience):
                    raise _busy("no place became free in time")
                self._inside += 1
            finally:
                self._queued -= 1
        try:
            yield
        finally:
            with self._room:
                self._inside -= 1
                self._room.notify()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """`size` bytes of the memory that bodies may take together, before the body is read.

        No more hold bodies than could ever be served: slow senders may not take every thread there is.
        """
        with self._room:
            if self._holders >= self._active + self._waiting + _READERS:
                raise _busy("too many requests are being sent")
            if self._held + size > self._bytes and self._held:
                raise _busy("too many large requests at once")
            self._held += size
            self._holders += 1
        try:
            yield
        finally:
            with self._room:
                self._held -= size
                self._holders -= 1

    @property
    def load(self) -> tuple[int, int]:
        """(inside, waiting), for the metrics."""
        with self._room:
            return self._inside, self._queued


class RateLimit:
    """RateLimit(600).take("client")   Raises HookError 429 above so many requests a minute; 0 means no limit."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._burst = max(1.0, per_minute / 6)
        self._clock = clock
        self._lock = Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> None:
        if not self._rate:
            return
        with self._lock:
            now = self._clock()
            left, then = self._buckets.get(client, (self._burst, now))
            left = min(self._burst, left + (now - then) * self._rate)
            self._buckets[client] = (max(0.0, left - 1), now)
        if left < 1:
            raise HookError(429, "throttled", "too many requests", retry_after=max(1, round((1 - left) / self._rate)))


def _busy(why: str) -> HookError:
    return HookError(503, "throttled", why, retry_after=RETRY_SECONDS)
