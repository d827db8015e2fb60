"""Jobs of the refresh queue: a patient, or a resource whose patient is not known yet, encrypted in the store."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from cryptography.fernet import InvalidToken, MultiFernet

from cds_service.store.refresh_queue import NewJob, RefreshQueue, TakenJob
from cds_service.store.store import Store

LOG = logging.getLogger("riskcards")


@dataclass(frozen=True, slots=True)
class RefreshJobs:
    """RefreshJobs(store, open_cipher(path), settle).add("general", ["Patient/1", "Observation/7"], now)

    `settle` is the time that a job waits for further changes of its patient. Raises StoreError.
    """

    store: Store
    cipher: MultiFernet = field(repr=False)
    settle: timedelta

    @property
    def queue(self) -> RefreshQueue:
        return self.store.refresh_queue

    def new(self, server: str, resources: Iterable[str], now: datetime, *, at_once: bool = False) -> list[NewJob]:
        """A job for each resource, each once, `settle` from now or at once."""
        due = now if at_once else now + self.settle
        places = {self.store.resource_hash(server, resource): resource for resource in resources}
        return [NewJob(place, server, self.sealed(place, resource), due) for place, resource in places.items()]

    def add(self, server: str, resources: Iterable[str], now: datetime, *, at_once: bool = False) -> int:
        """Adds jobs; returns how many were not waiting yet."""
        return self.queue.add(self.new(server, resources, now, at_once=at_once))

    def resource_of(self, job: TakenJob) -> str | None:
        """The resource of a job; None for one that was encrypted with another key, or moved."""
        return self.unsealed(job.place, job.body)

    def sealed(self, place: str, text: str) -> str:
        return self.cipher.encrypt(orjson.dumps([place, text])).decode()

    def unsealed(self, place: str, body: str) -> str | None:
        try:
            own, text = orjson.loads(self.cipher.decrypt(body.encode()))
        except (InvalidToken, ValueError):
            LOG.warning("an entry of the refresh queue was encrypted with another key")
            return None
        return str(text) if own == place else None
