"""Admission control: limits on concurrent work, on waiting requests, on bytes held, and on each client's rate.

A request that cannot be served soon is refused at once, with the seconds after which to try again; otherwise it would
wait until its EHR gives up on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock

RETRY_SECONDS = 2
_READERS = 4


class OverloadedError(Exception):
    """The service is at a limit. `retry_after` is in seconds; the message names the limit and no client."""

    def __init__(self, reason: str, retry_after: int = RETRY_SECONDS) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RateLimitedError(OverloadedError):
    """One client sends more requests than its rate limit allows."""


class Admission:
    """with Admission(active=2, waiting=16, seconds=2.0, held_bytes=2**26).enter(): ..."""

    def __init__(self, active: int, waiting: int, seconds: float, held_bytes: int) -> None:
        self._active, self._waiting, self._seconds, self._bytes = active, waiting, seconds, held_bytes
        self._inside = self._queued = self._held = self._holders = 0
        self._changed = Condition(Lock())

    @contextmanager
    def enter(self, until: float | None = None) -> Iterator[None]:
        """Takes one of `active` slots, after waiting at most `seconds` in a queue of at most `waiting`.

        Nor is it waited for past `until` (of `time.monotonic()`), when the client gives up. Raises OverloadedError.
        """
        patience = self._seconds if until is None else min(self._seconds, max(0.0, until - time.monotonic()))
        with self._changed:
            if self._inside >= self._active and self._queued >= self._waiting:
                raise OverloadedError("too many requests are waiting")
            self._queued += 1
            try:
                if not self._changed.wait_for(lambda: self._inside < self._active, patience):
                    raise OverloadedError("no place became free in time")
                self._inside += 1
            finally:
                self._queued -= 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Reserves `size` bytes of the memory for all request bodies, before a body is read. Raises OverloadedError.

        No more requests may hold bodies than could ever be served: slow senders must not take every thread.
        """
        with self._changed:
            if self._holders >= self._active + self._waiting + _READERS:
                raise OverloadedError("too many requests are being sent")
            if self._held + size > self._bytes and self._held:
                raise OverloadedError("too many large requests at once")
            self._held += size
            self._holders += 1
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._holders -= 1

    @property
    def load(self) -> tuple[int, int]:
        """(requests being served, requests waiting), for the metrics."""
        with self._changed:
            return self._inside, self._queued


class RateLimit:
    """RateLimit(600).take("client")   Raises RateLimitedError above that many requests a minute; 0 means no limit."""

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
            raise RateLimitedError("too many requests", max(1, round((1 - left) / self._rate)))
