"""Queries for monitoring, since a given time: counts, feedback, estimates with outcomes, model inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Engine, and_, func, select

from cds_service.store.engine import reading
from cds_service.store.schema import AUDIT, CARDS, ESTIMATES, FEEDBACK, OUTCOMES
from cds_service.store.values import UNSEEN


@dataclass(frozen=True, slots=True)
class Count:
    """The number of cards of one day, service, indicator and display status (`alert_policy.Shown`)."""

    day: str
    service: str
    indicator: str
    shown: str
    cards: int


@dataclass(frozen=True, slots=True)
class Answered:
    """One estimate as it was shown; `happened` is None until its outcome is imported."""

    patient: str
    task: str
    model: str
    probability: float | None
    abstention: str | None
    happened: bool | None


@dataclass(frozen=True, slots=True)
class FeedbackEntry:
    """One feedback entry on a shown card; `reason` is the code of an override, "" for none."""

    card: str
    service: str
    outcome: str
    reason: str


_IS_CARD = CARDS.c.service.not_in(UNSEEN)


class History:
    """History(engine).counts(since) -> [Count, ...]   Every method raises StoreError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def counts(self, since: datetime) -> list[Count]:
        day = func.date(CARDS.c.created)
        kinds = (day, CARDS.c.service, CARDS.c.summary_kind, CARDS.c.shown)
        query = select(*kinds, func.count()).where(CARDS.c.created >= since, _IS_CARD).group_by(*kinds).order_by(day)
        with reading(self._engine) as connection:
            # Cards from before modes existed were all shown.
            return [Count(str(row[0]), row[1], row[2], row[3] or "shown", row[4]) for row in connection.execute(query)]

    def feedback(self, since: datetime) -> list[FeedbackEntry]:
        query = (
            select(FEEDBACK.c.card, CARDS.c.service, FEEDBACK.c.outcome, FEEDBACK.c.body)
            .join(CARDS, CARDS.c.uuid == FEEDBACK.c.card)
            .where(CARDS.c.created >= since, _IS_CARD)
            .order_by(FEEDBACK.c.id)
        )
        with reading(self._engine) as connection:
            return [
                FeedbackEntry(row[0], row[1], row[2], _reason(orjson.loads(row[3])))
                for row in connection.execute(query)
            ]

    def estimates(self, since: datetime, *, with_outcome: bool = False) -> list[Answered]:
        """Estimates, the oldest first; with `with_outcome` only those whose outcome was imported."""
        known = and_(OUTCOMES.c.card == ESTIMATES.c.card, OUTCOMES.c.task == ESTIMATES.c.task)
        query = (
            select(
                CARDS.c.patient_hash,
                ESTIMATES.c.task,
                ESTIMATES.c.model,
                ESTIMATES.c.probability,
                ESTIMATES.c.abstention,
                OUTCOMES.c.happened,
            )
            .join(CARDS, CARDS.c.uuid == ESTIMATES.c.card)
            .join(OUTCOMES, known, isouter=not with_outcome)
            .where(CARDS.c.created >= since, _IS_CARD)
            .order_by(CARDS.c.created)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [Answered(*row[:5], None if row[5] is None else bool(row[5])) for row in rows]

    def newest(self, since: datetime, limit: int) -> Iterator[Mapping[str, Any]]:
        """Audit entries of the newest cards, the newest first, at most `limit`; streamed."""
        at = since.astimezone(UTC).isoformat()
        yield from self._bodies(AUDIT.c.at >= at, AUDIT.c.seq.desc(), limit)

    def first(self, limit: int) -> Iterator[Mapping[str, Any]]:
        """Audit entries of the oldest cards that retention has kept."""
        yield from self._bodies(AUDIT.c.at >= "", AUDIT.c.seq, limit)

    def _bodies(self, where: Any, order: Any, limit: int) -> Iterator[Mapping[str, Any]]:
        kept = (AUDIT.c.kind == "card", AUDIT.c.body.is_not(None), where)
        query = select(AUDIT.c.seq, AUDIT.c.body).where(*kept).order_by(order).limit(limit)
        with reading(self._engine) as connection:
            for row in connection.execute(query).yield_per(200):
                body = orjson.loads(row.body)
                if body.get("service") not in UNSEEN:
                    yield {"seq": row.seq, **body}


def _reason(body: Mapping[str, Any]) -> str:
    return str(body.get("overrideReason", {}).get("reason", {}).get("code", ""))
