"""Polls a server for what changed since the last poll (`_lastUpdated`), page by page, and queues the patients.

    position 08:00 ──┐ overlap ┌── since
                     07:58 ════╪═══ page 1 ═══ page 2 ═══ ... ═══ 08:01:03, the server's time at page 1 = next position

The overlap reads again what was stored late with an early time stamp; versions seen before are not queued twice. Times
are the server's (its `Date`), never ours. A page's patients and the position after it are stored in one transaction:
where a poll is interrupted, the next one goes on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import quote

import orjson

from cds_service.net.gateway import FetchedPage, GatewayError
from cds_service.oauth.scopes import READ
from cds_service.refresh.jobs import RefreshJobs
from cds_service.refresh.resource_ids import key_of, patient_of
from cds_service.refresh.servers import RefreshServer
from fhir_mapping.core import parse_instant

LOG = logging.getLogger("riskcards")
POLLED = tuple(kind for kind in READ if kind != "Binary")
FIRST = timedelta(hours=1)
"""The first poll reads the changes of this time; patients in hospital before are found by the census."""
PAGE = 200
MOST_PAGES = 5_000
MOST_SEEN = 50_000
"""Versions remembered of an overlap; those above it would be queued twice, which loses nothing."""


@dataclass(slots=True)
class Position:
    """How far a type's changes were read: the server's time, and the versions seen that the overlap reads again."""

    since: datetime
    seen: dict[str, str] = field(default_factory=dict)
    """Fingerprint of a version -> its time stamp."""

    def to_json(self) -> str:
        return orjson.dumps({"since": self.since.isoformat(), "seen": self.seen}).decode()

    @classmethod
    def from_json(cls, text: str) -> Position:
        value = orjson.loads(text)
        return cls(datetime.fromisoformat(value["since"]), dict(value["seen"]))

    def pruned(self, overlap: timedelta) -> Position:
        """Without the versions that the next poll does not read again."""
        oldest = self.since - overlap
        kept = {name: at for name, at in self.seen.items() if (moment := _instant(at)) is None or moment >= oldest}
        return Position(self.since, dict(islice(kept.items(), max(0, len(kept) - MOST_SEEN), None)))


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll found: changed resources, patients queued anew, and the types the server does not let us poll."""

    changes: int
    queued: int
    refused: Mapping[str, GatewayError]


class Poller:
    """Poller(server, jobs, overlap).poll(now, inpatients) -> Polled

    Raises GatewayError where the server is busy or down: what was read until then is queued, and the next poll goes on.
    """

    def __init__(self, server: RefreshServer, jobs: RefreshJobs, overlap: timedelta) -> None:
        self.server, self.jobs, self.overlap = server, jobs, overlap

    def poll(self, now: datetime, inpatients: Collection[str] | None) -> Polled:
        """Queues the changed patients among `inpatients` (None: all), and those with a changed Encounter.

        A patient who is admitted while the poll runs is not yet among the inpatients, but has a changed Encounter.
        """
        changes = queued = 0
        refused: dict[str, GatewayError] = {}
        for kind in POLLED:
            try:
                for found, new in self._changes(kind, now, inpatients):
                    changes, queued = changes + found, queued + new
            except GatewayError as error:
                if error.is_transient or error.status == 401:
                    raise
                refused[kind] = error
                LOG.warning("refresh: %s of %s cannot be polled: %s", kind, self.server.name, error)
        return Polled(changes, queued, refused)

    def _changes(self, kind: str, now: datetime, inpatients: Collection[str] | None) -> Iterator[tuple[int, int]]:
        """(changes, new jobs) of each page, after they were stored."""
        position = self._position(kind) or Position(now - FIRST)
        until: datetime | None = None
        newest, in_order = position.since - self.overlap, True
        for number, page in enumerate(self._pages(kind, position.since - self.overlap)):
            if number == 0:
                until = page.server_time
            patients: list[str] = []
            changes = 0
            for resource in _matches(page.bundle):
                version, at = _version(resource)
                moment = _instant(at)
                if moment is not None:
                    in_order = in_order and moment >= newest
                    newest = max(newest, moment)
                if version in position.seen:
                    continue
                if version:
                    position.seen[version] = at
                changes += 1
                patient = patient_of(resource, self.server.base)
                if patient is not None and (kind == "Encounter" or inpatients is None or patient in inpatients):
                    patients.append(patient)
            if page.next is None:
                # The server's time at the first page; without one, the newest time stamp.
                position.since = until or max(newest, position.since)
                position = position.pruned(self.overlap)
            elif in_order and newest > position.since:
                position.since = newest
                position = position.pruned(self.overlap)
            if not changes and page.next is not None:
                yield 0, 0  # seen before: a position of thousands of versions is not written again for it
                continue
            jobs = self.jobs.new(self.server.name, patients, now)
            yield changes, self.jobs.queue.advance(self.server.name, kind, self._sealed(kind, position), jobs)

    def _pages(self, kind: str, since: datetime) -> Iterator[FetchedPage]:
        """The pages of a type's changes since a time. Raises GatewayError."""
        moment = quote(f"ge{since.isoformat(timespec='milliseconds')}")
        query: str | None = f"{kind}?_lastUpdated={moment}&_sort=_lastUpdated&_count={PAGE}"
        asked: set[str] = set()
        while query is not None:
            if query in asked or len(asked) >= MOST_PAGES:
                raise GatewayError("endless-pages")
            asked.add(query)
            server = self.server
            page = server.gateway.page(server.base, query, server.token(), server.deadline())
            yield page
            query = page.next

    def _position(self, kind: str) -> Position | None:
        body = self.jobs.queue.position(self.server.name, kind)
        text = None if body is None else self.jobs.unsealed(self._place(kind), body)
        return None if text is None else Position.from_json(text)

    def _sealed(self, kind: str, position: Position) -> str:
        return self.jobs.sealed(self._place(kind), position.to_json())

    def _place(self, kind: str) -> str:
        return f"position {self.server.name} {kind}"


def _matches(bundle: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The resources that the search found, those it included left out."""
    listed = bundle.get("entry")
    for entry in listed if isinstance(listed, list) else ():
        search, resource = entry.get("search"), entry.get("resource")
        mode = search.get("mode") if isinstance(search, dict) else None
        if isinstance(resource, dict) and mode in {None, "match"} and key_of(resource) is not None:
            yield resource


def _version(resource: Mapping[str, Any]) -> tuple[str, str]:
    """(fingerprint of a version, its time stamp); both "" for a resource without version and time, always new."""
    meta = resource.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    at = meta.get("lastUpdated")
    at = at if isinstance(at, str) else ""
    number = meta.get("versionId")
    if not at and not number:
        return "", ""
    text = f"{key_of(resource)} {number} {at}"
    return hashlib.sha256(text.encode()).hexdigest()[:24], at


def _instant(text: str) -> datetime | None:
    found = parse_instant(text) if text else None
    return None if found is None else found.earliest
