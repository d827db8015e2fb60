"""Rounds of one server: poll when it is due, queue whoever has no current estimate, work off the queue.

Of several processes one polls a server; all of them work off its queue.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cds_service.background.leases import Leases
from cds_service.net.gateway import GatewayError
from cds_service.refresh.census import Census
from cds_service.refresh.estimates import FreshEstimates, PatientEstimates
from cds_service.refresh.polling import Poller
from cds_service.refresh.receiver import ASK
from cds_service.refresh.worker import RefreshWorker

FAILED_SECONDS = 30.0
_WORDS = {
    "no-access": "the authorization server grants no token: check the registration, its key and its system/ scopes",
    "address-not-allowed": "its address is in no network of RISKCARDS_PRIVATE_NETWORKS",
    "certificate": "its certificate is not trusted, see docs/deploy.md",
    "other-origin": "its links to further pages lead to another address than the iss of the client",
    "too-slow": "it does not answer in time",
    "unreachable": "it cannot be reached",
    "not-resolved": "its name cannot be resolved",
}


@dataclass(slots=True)
class RefreshRounds:
    """RefreshRounds(...).run_once() -> True if anything was done; `say` gets a line for the operator."""

    worker: RefreshWorker
    poller: Poller | None
    estimates: FreshEstimates
    leases: Leases
    every: timedelta
    oldest: timedelta
    say: Callable[[str], None]
    paused_until: float = 0.0
    """Of `time.monotonic()`: a server that is busy or down is left alone until then."""
    polled: datetime | None = None
    failed: bool = False
    _polls: bool = False

    def run_once(self) -> bool:
        """Polls if it is time, then works on one job. Raises StoreError."""
        if time.monotonic() < self.paused_until or not self.worker.tasks():
            return False
        try:
            polled = self._poll() if self._is_due() else False
            worked = self.worker.step()
        except GatewayError as error:
            self._pause(error)
            return False
        self.failed = False
        return polled or worked

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits that could be done now."""
        return self.polled is not None and not self.failed

    @property
    def _name(self) -> str:
        return self.worker.server.name

    def _is_due(self) -> bool:
        now, last = self.worker.handler.clock(), self.polled
        if last is None or now - last >= self.every:
            return True
        asked = self.worker.jobs.queue.positions(self._name).get(ASK)
        return asked is not None and asked > last

    def _poll(self) -> bool:
        now = self.worker.handler.clock()
        lease = hashlib.sha256(f"poll {self._name}".encode()).hexdigest()
        self._polls = self._polls or self.leases.claim(lease)
        if not self._polls:
            self.polled = now  # another process polls this server
            return False
        census = self.worker.census(0.0)
        found = None
        if self.poller is not None:
            found = self.poller.poll(now, census.patients if census.whole else None)
        due = self.due(census, now)
        new = self.worker.jobs.add(self._name, due, now, at_once=True)
        self.polled = now
        changes = "" if found is None else f"{found.changes} changes, "
        queued = new + (0 if found is None else found.queued)
        self.say(f"{self._name}: {len(census.inpatients)} inpatients; {changes}{queued} queued")
        for kind, why in ({} if found is None else found.refused).items():
            self.say(
                f"{self._name}: changes of {kind} cannot be polled ({self.words(why)}); the next estimate takes them in"
            )
        if not census.whole:
            self.say(f"{self._name}: the list of inpatients was cut; others are estimated when their data change")
        return True

    def due(self, census: Census, now: datetime) -> list[str]:
        """The inpatients without an estimate of this stay, or with one that is too old."""
        known = self.estimates.get_many(self._name, sorted(census.patients))
        return [one.patient for one in census.inpatients if self._lacks(known.get(one.patient), one.start, now)]

    def _lacks(self, found: PatientEstimates | None, start: datetime | None, now: datetime) -> bool:
        if found is None or now - found.read > self.oldest:
            return True
        tasks = self.worker.tasks()
        return (start is not None and found.read < start) or bool(found.tasks and set(tasks) - set(found.tasks))

    def _pause(self, error: GatewayError) -> None:
        self.failed = True
        seconds = FAILED_SECONDS if error.retry_after is None else max(1.0, error.retry_after)
        self.paused_until = time.monotonic() + seconds
        if error.status == 401:
            self.worker.server.access.forget()
        self.say(f"{self._name}: {self.words(error)}; next attempt in {seconds:.0f} s, nothing is lost")

    @staticmethod
    def words(error: GatewayError) -> str:
        """Returns what is wrong, and where it can be said, what to do."""
        return "it is busy (429)" if error.status == 429 else _WORDS.get(error.reason, str(error))
