"""A bounded, thread-safe cache in memory, over cachetools."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from cachetools import Cache, LRUCache, TTLCache

Value = TypeVar("Value")


class MemoryCache(Generic[Value]):
    """MemoryCache(most) keeps the `most` values used last; with `seconds`, each for so long after it was stored.

    0 seconds disables the cache.

    >>> answers: MemoryCache[int] = MemoryCache(1)
    >>> answers.put("one", 1), answers.put("two", 2), answers.get("one"), answers.get("two")
    (1, 2, None, 2)
    """

    def __init__(self, most: int, seconds: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._known: Cache[Hashable, Value] = LRUCache(most) if seconds is None else TTLCache(most, seconds, clock)
        self._lock = Lock()

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            return self._known.get(key)

    def put(self, key: Hashable, value: Value) -> Value:
        """Stores the value and returns it."""
        with self._lock:
            self._known[key] = value
        return value
