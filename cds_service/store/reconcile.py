"""Compares the tables with the audit chain, entry by entry: what was changed beside the chain shows.

Cards with their estimates, feedback, outcomes and modes must be as their entries say. An entry without content is
accepted only where the entry of a later purge covers it. Not covered: used token ids, and when a service last used the
database. A column that entries of an older version do not name is compared where they do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from cds_service.store.cards import estimate_row
from cds_service.store.engine import aware
from cds_service.store.schema import AUDIT, CARDS, ESTIMATES, FEEDBACK, MODES, OUTCOMES, SUGGESTIONS

_CARD = ("service", "hook_instance", "patient_hash", "client", "tenant", "shown")
_NEWER = ("scope_hash", "stay_hash")
# A row's own time precedes that of its entry by the time between two lines of code, and a locked database.
_BETWEEN = timedelta(seconds=5)
# Older versions took the time of each outcome of a long table.
_IMPORT = timedelta(hours=1)


class Reconciliation:
    """look = Reconciliation(connection); verify(look.loaded(parts), key, look.entry); look.rest() -> fault or None"""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        purges = connection.execute(select(AUDIT.c.seq, AUDIT.c.body).where(AUDIT.c.kind == "purge"))
        self._purged = [(row.seq, _before(row.body)) for row in purges if row.body is not None]
        self._modes: dict[tuple[str, str] | str, tuple[str, str, datetime | None] | None] = {}
        self._outcomes: dict[tuple[str, str], tuple[bool, datetime]] = {}
        self._cards = self._feedback = 0
        self._listed = True
        self._card_rows: dict[str, Any] = {}
        self._feedback_rows: dict[str, Any] = {}
        self._estimates: dict[str, list[tuple[Any, ...]]] = {}
        self._suggestions: dict[str, list[str]] = {}

    def loaded(self, parts: Iterable[Sequence[Any]]) -> Iterator[Any]:
        """The rows of the chain, given in parts; what the tables hold of a part is read at once."""
        for part in parts:
            self._load([row.subject for row in part if row.kind in {"card", "feedback"}])
            yield from part

    def _load(self, cards: list[str]) -> None:
        def rows(table: Any, column: Any) -> Iterable[Any]:
            return self._connection.execute(select(table).where(column.in_(cards)).order_by(*table.primary_key))

        self._card_rows = {row.uuid: row for row in rows(CARDS, CARDS.c.uuid)}
        self._feedback_rows = {row.fingerprint: row for row in rows(FEEDBACK, FEEDBACK.c.card)}
        self._estimates = {}
        for row in rows(ESTIMATES, ESTIMATES.c.card):
            self._estimates.setdefault(row.card, []).append(_comparable(row._mapping))
        self._suggestions = {}
        for row in rows(SUGGESTIONS, SUGGESTIONS.c.card):
            self._suggestions.setdefault(row.card, []).append(row.uuid)

    def entry(self, row: Any, body: Mapping[str, Any] | None) -> str | None:
        """The fault of one entry. To be called with all of them, the oldest first."""
        if body is None:
            if row.kind == "mode":
                self._modes[row.subject] = None
            self._listed &= row.kind != "outcomes"
            return None if self._is_purged(row) else f"entry {row.seq}: its content was removed, and no purge covers it"
        checks = {"card": self._card, "feedback": self._feedback_of, "mode": self._mode, "outcomes": self._imported}
        fault = checks[row.kind](row, body) if row.kind in checks else None
        return None if fault is None else f"entry {row.seq}: {fault}"

    def rest(self) -> str | None:
        """What the tables hold beyond the chain, after all its entries."""
        # Cards from before the chain existed have no `shown`.
        cards = CARDS.c.shown.is_not(None)
        feedback = FEEDBACK.c.card.in_(select(CARDS.c.uuid).where(cards))
        for table, of_chain, known, what in (
            (CARDS, cards, self._cards, "cards"),
            (FEEDBACK, feedback, self._feedback, "feedback entries"),
        ):
            found = self._connection.execute(select(func.count()).select_from(table).where(of_chain)).scalar() or 0
            if found != known:
                return f"{found} {what} are stored, {known} are in the chain"
        return self._modes_fault() or (self._outcomes_fault() if self._listed else None)

    def _modes_fault(self) -> str | None:
        modes = {(row.service, row.tenant): row for row in self._connection.execute(select(MODES))}
        named = {place: "/".join(place)[:64] for place in modes}
        for place, row in modes.items():
            known = self._modes.get(place, self._modes.get(named[place], ()))
            if known is None:  # its entry was emptied by an older version's purge
                continue
            if not known or row.mode != known[0]:
                return f"mode of {named[place]}: {row.mode} is set, the chain says {known[0] if known else 'none'}"
            if row.reason != known[1] or (known[2] and abs(aware(row.changed) - known[2]) > _BETWEEN):
                return f"mode of {named[place]}: its reason or time was changed"
        for said in self._modes.keys() - modes.keys() - set(named.values()):
            name = said if isinstance(said, str) else "/".join(said)[:64]
            if known := self._modes[said]:
                return f"mode of {name}: none is set, the chain says {known[0]}"
        return None

    def _outcomes_fault(self) -> str | None:
        stored = {(row.card, row.task): row for row in self._connection.execute(select(OUTCOMES))}
        kept = set(self._connection.execute(select(CARDS.c.uuid)).scalars())
        for place in stored.keys() | self._outcomes.keys():
            row, known = stored.get(place), self._outcomes.get(place)
            if row is None and place[0] not in kept:
                continue  # purged with its card
            if row is None or known is None or bool(row.happened) is not known[0]:
                return f"outcome of card {place[0]}: it is not as it was imported"
            if abs(aware(row.received) - known[1]) > _IMPORT:
                return f"outcome of card {place[0]}: its time was changed"
        return None

    def _is_purged(self, row: Any) -> bool:
        at = datetime.fromisoformat(row.at)
        return any(seq > row.seq and at <= before + _BETWEEN for seq, before in self._purged)

    def _card(self, row: Any, body: Mapping[str, Any]) -> str | None:
        kept = self._card_rows.get(row.subject)
        if kept is None:
            return None if self._is_purged(row) else "its card was deleted"
        self._cards += 1
        names = _CARD + tuple(name for name in _NEWER if name in body)
        same = kept.summary_kind == body["indicator"] and all(getattr(kept, name) == body.get(name) for name in names)
        if not same or not _at_once(kept.created, row):
            return "its card was changed"
        said = [_comparable(estimate_row(each)) for each in body["estimates"]]
        if self._estimates.get(row.subject, []) != said:
            return "the estimates of its card were changed"
        offered = sorted(self._suggestions.get(row.subject, []))
        return None if body.get("suggestions", offered) == offered else "the suggestions of its card were changed"

    def _feedback_of(self, row: Any, body: Mapping[str, Any]) -> str | None:
        kept = self._feedback_rows.get(body["fingerprint"])
        if kept is None:
            return None if self._is_purged(row) else "its feedback was deleted"
        self._feedback += 1
        same = hashlib.sha256(kept.body.encode()).hexdigest() == body["fingerprint"]
        same = same and (kept.card, kept.outcome) == (row.subject, body["outcome"]) and _at_once(kept.received, row)
        return None if same else "its feedback was changed"

    def _mode(self, row: Any, body: Mapping[str, Any]) -> None:
        if "tenant" in body:
            place = (body["service"], body["tenant"])
            self._modes[place] = (body["mode"], body["reason"], datetime.fromisoformat(row.at))
        else:  # of an older version: its subject is cut, and the mode's time was taken before the lock
            self._modes[row.subject] = (body["mode"], body["reason"], None)

    def _imported(self, row: Any, body: Mapping[str, Any]) -> None:
        # Imports from before version 4 are not listed.
        self._listed &= "outcomes" in body
        for card, task, happened in body.get("outcomes", ()):
            self._outcomes[card, task] = (happened, datetime.fromisoformat(row.at))


def _comparable(estimate: Mapping[str, Any]) -> tuple[Any, ...]:
    """An estimate without the order of its drivers, which the entry sorts."""
    names = ("task", "probability", "abstention", "model")
    return (*(estimate[name] for name in names), orjson.loads(estimate["drivers"]))


def _at_once(moment: datetime, row: Any) -> bool:
    """Whether a row was written with its entry: its time is that of the entry."""
    return abs(aware(moment) - datetime.fromisoformat(row.at)) <= _BETWEEN


def _before(body: str) -> datetime:
    return datetime.fromisoformat(orjson.loads(body)["before"])
