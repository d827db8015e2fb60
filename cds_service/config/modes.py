"""Modes of a service: off, silent, pilot, live; and the kill switch, which is `off` for every service and tenant.

off     nothing is read or estimated; the answer is `cards: []`
silent  cards are made and stored but not shown: a site evaluates them first
pilot   shown to the named pilot users, silent for all other users
live    shown

A task may be off too: no card and no page then has its estimate. The task of a service that is off is off everywhere,
if that service has no other task: who switches off the readmission service means its estimate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from threading import Lock

from cds_service.services import SERVICES
from cds_service.store.store import Store

EVERY = "*"
TASK = "task:"
"""Before the name of a task, in the place of a service."""
MODE_OF = "hospital-risk"
"""The service whose mode decides whether estimates are shown outside of cards, refreshed and written back."""
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
        self._overrides: dict[tuple[str, str], str] = {}

    def of(self, service: str, tenant: str | None) -> Mode:
        """The mode of this service and tenant: the most specific that is set, unless all is off, or all of the tenant.

        Raises StoreError: a service that cannot read its mode gives no cards.
        """
        modes = self._in_force()
        everything = ((EVERY, tenant or EVERY), (EVERY, EVERY))
        if any(modes.get(place) == Mode.OFF for place in everything):
            return Mode.OFF
        for place in ((service, tenant or EVERY), (service, EVERY), *everything):
            if place in modes:
                return Mode(modes[place])
        return self._default

    @property
    def all_off(self) -> bool:
        """Whether the kill switch is on for every tenant, or nothing but `off` is set. Raises StoreError."""
        modes = self._in_force()
        if (EVERY, EVERY) in modes:
            return modes[EVERY, EVERY] == Mode.OFF
        return {self._default, *modes.values()} == {Mode.OFF}

    def active(self, tasks: Iterable[str], tenant: str | None) -> tuple[str, ...]:
        """Those of the tasks that are not off, in their order. Raises StoreError."""
        return tuple(task for task in tasks if not self._is_off(task, tenant))

    def _is_off(self, task: str, tenant: str | None) -> bool:
        """Whether a task, or its own service, was set off by name; a mode for everything is no word about a task."""
        modes = self._in_force()
        own = (service.id for service in SERVICES.values() if service.tasks == (task,))
        for place in (f"{TASK}{task}", *own):
            if modes.get((place, tenant or EVERY), modes.get((place, EVERY))) == Mode.OFF:
                return True
        return False

    def override(self, service: str, tenant: str, mode: str | None) -> None:
        """Puts a mode in force in this process at once; None for one that is in the database by now, which is read."""
        with self._lock:
            self._read = float("-inf")
            if mode is None:
                self._overrides.pop((service, tenant), None)
            else:
                self._overrides[service, tenant] = mode

    def _in_force(self) -> dict[tuple[str, str], str]:
        """All modes that are set, in the database or over the local socket."""
        with self._lock:
            overrides = dict(self._overrides)
        # Told over the local socket while the database does not answer.
        if overrides.get((EVERY, EVERY)) == Mode.OFF:
            return overrides
        return self._fresh() | overrides

    def _fresh(self) -> dict[tuple[str, str], str]:
        with self._lock:
            if self._clock() - self._read > FRESH_SECONDS:
                self._modes = self._store.modes()
                self._read = self._clock()
            return self._modes
