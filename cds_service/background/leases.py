"""Leases: one of many workers does a piece of work, and another takes over if that one dies.

    with Leases(store.sealed, "held", 30) as leases:
        if leases.claim(name): ...; leases.release(name)

A lease is an entry with an expiry. A thread of its worker renews it; the leases of a worker that is killed expire.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from types import TracebackType

from cds_service.store.errors import StoreError
from cds_service.store.sealed import SealedEntries

LOG = logging.getLogger("riskcards")


class Leases:
    """Leases(entries, kind, seconds).claim(name) -> True for exactly one of the workers that claim it

    `name` is a fingerprint, so that the stored lease reveals nothing.
    """

    def __init__(self, entries: SealedEntries, kind: str, seconds: float) -> None:
        self._entries, self._kind, self._seconds = entries, kind, seconds
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._put_off, name="leases", daemon=True)

    def __enter__(self) -> Leases:
        self._beat.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for name in tuple(self._held):
            self.release(name)

    def claim(self, name: str) -> bool:
        """Raises StoreError."""
        if not self._entries.put(self._kind, name, "", self._end()):
            return False
        with self._lock:
            self._held.add(name)
        return True

    def release(self, name: str) -> None:
        """Releases a lease; one that cannot be released expires."""
        with self._lock:
            self._held.discard(name)
        try:
            self._entries.drop(self._kind, name)
        except StoreError as error:
            LOG.warning("a lease was not given back: %s", error.__class__.__name__)

    def _put_off(self) -> None:
        while not self._over.wait(self._seconds / 3):
            with self._lock:
                held = tuple(self._held)
            for name in held:
                try:
                    self._entries.replace(self._kind, name, "", self._end())
                except StoreError as error:
                    LOG.warning("a lease was not put off: %s", error.__class__.__name__)

    def _end(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._seconds)
