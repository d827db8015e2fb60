"""Compares the tables with the audit chain, entry by entry: what was changed beside the chain shows.

Cards with their estimates, feedback, outcomes and modes must be as their entries say. An entry without content is
accepted only where the entry of a later purge covers it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from cds_service.store.schema import AUDIT, CARDS, ESTIMATES, FEEDBACK, MODES, OUTCOMES

_CARD = ("service", "hook_instance", "patient_hash", "client", "tenant", "shown")
# A card's own time precedes that of its entry by the time between two lines of code.
_BETWEEN = timedelta(seconds=5)


class Reconciliation:
    """look = Reconciliation(connection); verify(look.loaded(parts), key, look.entry); look.rest() -> fault or None"""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        purges = connection.execute(select(AUDIT.c.seq, AUDIT.c.body).where(AUDIT.c.kind == "purge"))
        self._purged = [(row.seq, _before(row.body)) for row in purges if row.body is not None]
        self._modes: dict[str, str | None] = {}
        self._outcomes: dict[tuple[str, str], bool] = {}
        self._cards = self._feedback = 0
        self._listed = True
        self._card_rows: dict[str, Any] = {}
        self._feedback_rows: dict[str, Any] = {}
        self._estimates: dict[str, list[tuple[Any, ...]]] = {}

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
            self._estimates.setdefault(row.card, []).append((row.task, row.probability, row.abstention))

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
        modes = {f"{row.service}/{row.tenant}"[:64]: row.mode for row in self._connection.execute(select(MODES))}
        for place in modes.keys() | self._modes.keys():
            known_mode = self._modes.get(place, "")
            if known_mode is not None and modes.get(place, "") != known_mode:
                return f"mode of {place}: {modes.get(place) or 'none'} is set, the chain says {known_mode or 'none'}"
        return None

    def _outcomes_fault(self) -> str | None:
        stored = {(row.card, row.task): bool(row.happened) for row in self._connection.execute(select(OUTCOMES))}
        kept = set(self._connection.execute(select(CARDS.c.uuid)).scalars())
        for place in stored.keys() | self._outcomes.keys():
            if place[0] in kept and stored.get(place) is not self._outcomes.get(place):
                return f"outcome of card {place[0]}: it is not as it was imported"
        return None

    def _is_purged(self, row: Any) -> bool:
        at = datetime.fromisoformat(row.at)
        return any(seq > row.seq and at <= before + _BETWEEN for seq, before in self._purged)

    def _card(self, row: Any, body: Mapping[str, Any]) -> str | None:
        kept = self._card_rows.get(row.subject)
        if kept is None:
            return None if self._is_purged(row) else "its card was deleted"
        self._cards += 1
        if kept.summary_kind != body["indicator"] or any(getattr(kept, name) != body.get(name) for name in _CARD):
            return "its card was changed"
        said = [(each["task"], each["probability"], each["abstention"]) for each in body["estimates"]]
        same = self._estimates.get(row.subject, []) == said
        return None if same else "the estimates of its card were changed"

    def _feedback_of(self, row: Any, body: Mapping[str, Any]) -> str | None:
        kept = self._feedback_rows.get(body["fingerprint"])
        if kept is None:
            return None if self._is_purged(row) else "its feedback was deleted"
        self._feedback += 1
        same = hashlib.sha256(kept.body.encode()).hexdigest() == body["fingerprint"]
        same = same and (kept.card, kept.outcome) == (row.subject, body["outcome"])
        return None if same else "its feedback was changed"

    def _mode(self, row: Any, body: Mapping[str, Any]) -> None:
        self._modes[row.subject] = body["mode"]

    def _imported(self, _: Any, body: Mapping[str, Any]) -> None:
        # Imports from before version 4 are not listed.
        self._listed &= "outcomes" in body
        for card, task, happened in body.get("outcomes", ()):
            self._outcomes[card, task] = happened


def _before(body: str) -> datetime:
    return datetime.fromisoformat(orjson.loads(body)["before"])
