"""A bounded, thread-safe cache that evicts the least recently used value."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """LruCache(most) keeps the `most` values used last.

    >>> answers: LruCache[int] = LruCache(1)
    >>> answers.put("one", 1), answers.put("two", 2), answers.get("one"), answers.get("two")
    (1, 2, None, 2)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
        return known

    def put(self, key: Hashable, value: Value) -> Value:
        """Stores the value and returns it."""
        with self._lock:
            self._known[key] = value
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return value
