"""Modes of a service: off, silent, pilot, live; and the kill switch, which is `off` for every service and tenant.

off     nothing is read or estimated; the answer is `cards: []`
silent  cards are made and stored but not shown: a site evaluates them first
pilot   shown to the named pilot users, silent for all other users
live    shown
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from threading import Lock

from cds_service.store.store import Store

EVERY = "*"
# A change by another process takes effect after this time: well under the five seconds allowed for the kill switch.
FRESH_SECONDS = 2.0


class Mode(StrEnum):
    OFF = "off"
    SILENT = "silent"
    PILOT = "pilot"
    LIVE = "live"


class ModeBoard:
    """ModeBoard(store, Mode.LIVE).of("hospital-risk", tenant) -> Mode"""

    def __init__(self, store: Store, default: Mode, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._default = default
        self._clock = clock
        self._lock = Lock()
        self._read = float("-inf")
        self._modes: dict[tuple[str, str], str] = {}

    def of(self, service: str, tenant: str | None) -> Mode:
        """The mode of this service and tenant: the most specific one that is set, unless all is `off`.

        Raises StoreError: a service that cannot read its mode gives no cards.
        """
        modes = self._fresh()
        if modes.get((EVERY, EVERY)) == Mode.OFF:
            return Mode.OFF
        for place in ((service, tenant or EVERY), (service, EVERY), (EVERY, tenant or EVERY), (EVERY, EVERY)):
            if place in modes:
                return Mode(modes[place])
        return self._default

    def _fresh(self) -> dict[tuple[str, str], str]:
        with self._lock:
            if self._clock() - self._read > FRESH_SECONDS:
                self._modes = self._store.modes()
                self._read = self._clock()
            return self._modes
