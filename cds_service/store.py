"""What is kept: each card before it is answered, and feedback on it. SQLite (WAL, FULL) or PostgreSQL by URL.

No names, no notes, no resource content: the card's estimate, its model, and the ids of the hook. The patient is kept
as a salted hash, enough to find a patient's cards again by whoever holds the salt.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from risk_model import Assessment

METADATA = MetaData()
CARDS = Table(
    "cards",
    METADATA,
    Column("uuid", String(36), primary_key=True),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("service", String(64), nullable=False),
    Column("hook_instance", String(36), nullable=False),
    Column("patient_hash", String(64), nullable=False),
    Column("summary_kind", String(16), nullable=False),
)
ESTIMATES = Table(
    "estimates",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("card", ForeignKey("cards.uuid"), nullable=False, index=True),
    Column("task", String(64), nullable=False),
    Column("probability", Float),
    Column("abstention", String(64)),
    Column("model", String(128), nullable=False),
    Column("drivers", Text, nullable=False),
)
SUGGESTIONS = Table(
    "suggestions",
    METADATA,
    Column("uuid", String(36), primary_key=True),
    Column("card", ForeignKey("cards.uuid"), nullable=False, index=True),
)
FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("card", String(36), nullable=False, index=True),
    Column("received", DateTime(timezone=True), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("body", Text, nullable=False),
)
SALT = Table("salt", METADATA, Column("id", Integer, primary_key=True), Column("value", String(64), nullable=False))


class StoreError(Exception):
    """The database did not take what it was given; nothing was answered as if it had."""


class Store:
    """Store(url).record_card(...); Store(url).add_feedback(...)"""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        try:
            METADATA.create_all(self._engine)
            self._salt = self._load_salt()
        except SQLAlchemyError as error:
            raise StoreError(f"the database cannot be opened ({error.__class__.__name__})") from None

    def _load_salt(self) -> str:
        with self._engine.begin() as connection:
            found = connection.execute(select(SALT.c.value)).scalar()
            if found is None:
                found = secrets.token_hex(32)
                connection.execute(insert(SALT).values(id=1, value=found))
        return str(found)

    def patient_hash(self, patient: str) -> str:
        return hashlib.sha256(f"{self._salt}:{patient}".encode()).hexdigest()

    def record_card(
        self,
        card: Mapping[str, Any],
        *,
        service: str,
        hook_instance: str,
        patient: str,
        assessments: Sequence[Assessment],
    ) -> None:
        """Written before the card is answered. Raises StoreError."""
        rows = [
            {
                "card": card["uuid"],
                "task": a.estimate.task,
                "probability": a.estimate.probability,
                "abstention": a.estimate.abstention.code if a.estimate.abstention else None,
                "model": f"{a.estimate.model_id} {a.estimate.model_version}",
                "drivers": orjson.dumps({d.concept: round(d.contribution, 6) for d in a.estimate.drivers}).decode(),
            }
            for a in assessments
        ]
        offered = [{"uuid": s["uuid"], "card": card["uuid"]} for s in card.get("suggestions", ())]
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    insert(CARDS).values(
                        uuid=card["uuid"],
                        created=datetime.now(UTC),
                        service=service,
                        hook_instance=hook_instance,
                        patient_hash=self.patient_hash(patient),
                        summary_kind=card["indicator"],
                    )
                )
                connection.execute(insert(ESTIMATES), rows)
                if offered:
                    connection.execute(insert(SUGGESTIONS), offered)
        except SQLAlchemyError as error:
            raise StoreError(f"the card could not be recorded ({error.__class__.__name__})") from None

    def card_service(self, card: str) -> str | None:
        """Which service sent this card; None when none did."""
        with self._engine.connect() as connection:
            return connection.execute(select(CARDS.c.service).where(CARDS.c.uuid == card)).scalar()

    def suggestions_of(self, card: str) -> frozenset[str]:
        with self._engine.connect() as connection:
            return frozenset(connection.execute(select(SUGGESTIONS.c.uuid).where(SUGGESTIONS.c.card == card)).scalars())

    def add_feedback(self, entries: Sequence[Mapping[str, Any]]) -> int:
        """All of one POST or nothing; the same entry twice is kept once. Returns how many were new."""
        new = 0
        try:
            with self._engine.begin() as connection:
                for entry in entries:
                    body = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
                    fingerprint = hashlib.sha256(body).hexdigest()
                    known = connection.execute(
                        select(FEEDBACK.c.id).where(FEEDBACK.c.fingerprint == fingerprint)
                    ).first()
                    if known is not None:
                        continue
                    new += 1
                    values = {"card": entry["card"], "outcome": entry["outcome"], "received": datetime.now(UTC)}
                    connection.execute(insert(FEEDBACK).values(fingerprint=fingerprint, body=body.decode(), **values))
        except SQLAlchemyError as error:
            raise StoreError(f"the feedback could not be recorded ({error.__class__.__name__})") from None
        return new

    def feedback(self) -> list[dict[str, Any]]:
        """Every entry in the order it came."""
        with self._engine.connect() as connection:
            bodies = connection.execute(select(FEEDBACK.c.body).order_by(FEEDBACK.c.id)).scalars()
            return [orjson.loads(body) for body in bodies]

    def check(self) -> None:
        """Raises StoreError when the database does not answer."""
        try:
            with self._engine.begin() as connection:
                connection.execute(select(SALT.c.id)).first()
        except SQLAlchemyError as error:
            raise StoreError(f"the database does not answer ({error.__class__.__name__})") from None

    def close(self) -> None:
        self._engine.dispose()


def _engine(url: str) -> Engine:
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _durable(connection: Any, _: Any) -> None:
            # WAL lets readers go on while one writes; FULL keeps what was acknowledged through a power cut.
            cursor = connection.cursor()
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    return engine
