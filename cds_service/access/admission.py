"""Admission control: limits on concurrent work, on waiting requests, on bytes held, and on each client's rate.

A request that cannot be served soon is refused at once, with the seconds after which to try again; otherwise it would
wait until its EHR gives up on it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from cds_hooks import HookError

RETRY_SECONDS = 2
_READERS = 4
_MOST_BUCKETS = 10_000


class OverloadedError(HookError):
    """503: the service is at a limit. `retry_after` is in seconds; the message names the limit and no client."""

    def __init__(self, reason: str) -> None:
        super().__init__(503, "throttled", reason, retry_after=RETRY_SECONDS)


class RateLimitedError(HookError):
    """429: one client sends more requests than its rate limit allows."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(429, "throttled", reason, retry_after=retry_after)


class Admission:
    """with Admission(active=2, waiting=16, seconds=2.0, held_bytes=2**26).enter(): ..."""

    def __init__(self, active: int, waiting: int, seconds: float, held_bytes: int) -> None:
        self._active, self._waiting, self._seconds, self._bytes = active, waiting, seconds, held_bytes
        self._inside = self._queued = self._held = self._holders = 0
        # By client: requests that wait, bodies, bytes.
        self._queued_of: Counter[str] = Counter()
        self._holders_of: Counter[str] = Counter()
        self._held_of: Counter[str] = Counter()
        self._changed = Condition(Lock())

    @contextmanager
    def enter(self, until: float | None = None, client: str = "") -> Iterator[None]:
        """Takes one of `active` slots, after waiting at most `seconds` in a queue of at most `waiting`.

        Nor is it waited for past `until` (of `time.monotonic()`), when the client gives up. One `client` never has the
        whole queue. Raises OverloadedError.
        """
        patience = self._seconds if until is None else min(self._seconds, max(0.0, until - time.monotonic()))
        with self._changed:
            if self._inside >= self._active and self._queued >= self._waiting:
                raise OverloadedError("too many requests are waiting")
            if client and self._inside >= self._active and self._queued_of[client] >= share(self._waiting):
                raise OverloadedError("too many requests of this client are waiting")
            self._queued += 1
            self._queued_of[client] += 1
            try:
                if not self._changed.wait_for(lambda: self._inside < self._active, patience):
                    raise OverloadedError("no place became free in time")
                self._inside += 1
            finally:
                self._queued -= 1
                _less(self._queued_of, client, 1)
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify()

    @contextmanager
    def hold(self, size: int, client: str = "") -> Iterator[None]:
        """Reserves `size` bytes of the memory for all request bodies, before a body is read. Raises OverloadedError.

        No more requests may hold bodies than could ever be served: slow senders must not take every thread, and those
        of one `client` leave a share to the others.
        """
        most = self._active + self._waiting + _READERS
        with self._changed:
            if self._holders >= most or (client and self._holders_of[client] >= share(most)):
                raise OverloadedError("too many requests are being sent")
            if self._held + size > self._bytes and self._held:
                raise OverloadedError("too many large requests at once")
            if client and self._held_of[client] and self._held_of[client] + size > share(self._bytes):
                raise OverloadedError("too many large requests of this client at once")
            self._held += size
            self._holders += 1
            self._held_of[client] += size
            self._holders_of[client] += 1
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._holders -= 1
                _less(self._held_of, client, size)
                _less(self._holders_of, client, 1)

    @property
    def load(self) -> tuple[int, int]:
        """(requests being served, requests waiting), for the metrics."""
        with self._changed:
            return self._inside, self._queued


def share(most: int) -> int:
    """What one client may have of a limit: three quarters, so that another finds room; all of one or two.

    >>> [share(most) for most in (1, 2, 4, 36)]
    [1, 2, 3, 27]
    """
    return most if most < 3 else most - max(1, most // 4)


def _less(counter: Counter[str], client: str, size: int) -> None:
    counter[client] -= size
    if counter[client] <= 0:
        del counter[client]


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
            if len(self._buckets) >= _MOST_BUCKETS:
                # Those that are full again say nothing.
                full = self._burst / self._rate
                self._buckets = {name: kept for name, kept in self._buckets.items() if now - kept[1] < full}
            left, then = self._buckets.get(client, (self._burst, now))
            left = min(self._burst, left + (now - then) * self._rate)
            self._buckets[client] = (max(0.0, left - 1), now)
        if left < 1:
            raise RateLimitedError("too many requests", max(1, round((1 - left) / self._rate)))
