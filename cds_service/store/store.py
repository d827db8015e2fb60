"""The store: estimates, their numeric inputs, and the ids of the hook. No names, notes or resource content.

The patient is stored as a salted hash: with the salt a patient's cards can be found again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cds_service.store import audit
from cds_service.store.audit import AuditEntry, Verification
from cds_service.store.engine import open_engine, upgrade
from cds_service.store.errors import named, opening
from cds_service.store.history import History
from cds_service.store.schema import (
    AUDIT,
    CARDS,
    ESTIMATES,
    FEEDBACK,
    MODES,
    OUTCOMES,
    SALT,
    SEALED,
    SEEN_TOKENS,
    SUGGESTIONS,
)
from cds_service.store.sealed import SealedEntries

# Expired token ids are deleted in passing by some of the writes, so that no job must be scheduled.
_CLEAR_EVERY = 256


@dataclass(frozen=True, slots=True)
class CardRecord:
    """One card to store; `estimates` have the model and the exact inputs, so that it can be replayed."""

    uuid: str
    service: str
    hook_instance: str
    patient: str
    encounter: str | None
    user: str
    indicator: str
    shown: str
    estimates: Sequence[Mapping[str, Any]]
    suggestions: Sequence[str] = ()
    client: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Asker:
    """The client and the tenant that the token of a request names."""

    client: str | None
    tenant: str | None


@dataclass(frozen=True, slots=True)
class Override:
    """The last time this user overrode a card of this stay, and the estimates on that card."""

    at: datetime
    probabilities: Mapping[str, float | None] = field(default_factory=dict)


class Store:
    """Store("sqlite:///cards.db") · Store("postgresql://user:password@host/database")

    Opening migrates the schema, however long that takes. Every method raises StoreError if the database fails, or does
    not answer one step within `patience` seconds.
    """

    def __init__(self, url: str, patience: float | None = None) -> None:
        self._uses = 0
        with opening(url):
            self._engine = open_engine(url)
            upgrade(self._engine)
            self._salt = self._load_salt()
            if patience is not None:
                self._engine.dispose()
                self._engine = open_engine(url, patience)

    def _load_salt(self) -> str:
        with self._engine.begin() as connection:
            audit.lock(connection)
            found = connection.execute(select(SALT.c.value)).scalar()
            if found is None:
                found = secrets.token_hex(32)
                connection.execute(insert(SALT).values(id=1, value=found))
        return str(found)

    @property
    def sealed(self) -> SealedEntries:
        """Encrypted entries: launches and sessions of the SMART app, leases."""
        return SealedEntries(self._engine)

    @property
    def history(self) -> History:
        """Queries for monitoring."""
        return History(self._engine)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with named("the database cannot be read"), self._engine.connect() as connection:
            yield connection.execution_options(reading=True)

    def patient_hash(self, patient: str) -> str:
        return self._hash(patient)

    def scope_hash(self, patient: str, encounter: str | None, user: str) -> str:
        """The hash of one stay and user, by which overrides are found."""
        return self._hash(patient, encounter or "", user)

    def _hash(self, *parts: str) -> str:
        return hashlib.sha256(":".join((self._salt, *parts)).encode()).hexdigest()

    # Cards

    def record_card(self, record: CardRecord) -> None:
        """Stores a card, its estimates and suggestions, and the audit entry that covers them, before it is sent."""
        patient = self.patient_hash(record.patient)
        offered = [{"uuid": uuid, "card": record.uuid} for uuid in record.suggestions]
        rows = [
            {
                "card": record.uuid,
                "task": estimate["task"],
                "probability": estimate["probability"],
                "abstention": estimate["abstention"],
                "model": f"{estimate['model_id']} {estimate['model_version']}",
                "drivers": orjson.dumps(estimate["drivers"]).decode(),
            }
            for estimate in record.estimates
        ]
        kept = {
            "service": record.service,
            "hook_instance": record.hook_instance,
            "patient_hash": patient,
            "client": record.client,
            "tenant": record.tenant,
            "shown": record.shown,
        }
        with named("the card could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            connection.execute(
                insert(CARDS).values(
                    uuid=record.uuid,
                    created=datetime.now(UTC),
                    summary_kind=record.indicator,
                    scope_hash=self.scope_hash(record.patient, record.encounter, record.user),
                    **kept,
                )
            )
            if rows:
                connection.execute(insert(ESTIMATES), rows)
            if offered:
                connection.execute(insert(SUGGESTIONS), offered)
            audited = kept | {"indicator": record.indicator, "estimates": list(record.estimates)}
            audit.append(connection, "card", record.uuid, audited)

    def card_service(self, card: str, asker: Asker | None = None) -> str | None:
        """The service that sent this card; None if none did, or not to this client and tenant."""
        query = select(CARDS.c.service).where(CARDS.c.uuid == card)
        if asker is not None:
            query = query.where(CARDS.c.client == asker.client, CARDS.c.tenant.is_not_distinct_from(asker.tenant))
        with self._reading() as connection:
            return connection.execute(query).scalar()

    def suggestions_of(self, card: str) -> frozenset[str]:
        with self._reading() as connection:
            return frozenset(connection.execute(select(SUGGESTIONS.c.uuid).where(SUGGESTIONS.c.card == card)).scalars())

    def card_record(self, card: str) -> dict[str, Any] | None:
        """The audit entry of a card; None if there is none or retention has cleared it."""
        query = select(AUDIT.c.body).where(AUDIT.c.subject == card, AUDIT.c.kind == "card")
        with self._reading() as connection:
            body = connection.execute(query).scalar()
        return None if body is None else orjson.loads(body)

    def warned_since(self, service: str, since: datetime) -> tuple[int, int]:
        """(warnings shown, cards shown) of a service since a time, for the cap on the alert rate."""
        shown = (CARDS.c.service == service, CARDS.c.created >= since, CARDS.c.shown == "shown")
        query = select(CARDS.c.summary_kind, func.count()).where(*shown).group_by(CARDS.c.summary_kind)
        with self._reading() as connection:
            counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
        return sum(counts.values()) - counts.get("info", 0), sum(counts.values())

    def last_override(
        self, patient: str, encounter: str | None, user: str, service: str, asker: Asker | None = None
    ) -> Override | None:
        """The newest override in this scope; ids of other clients and tenants are different scopes."""
        scope, asked = self.scope_hash(patient, encounter, user), asker or Asker(None, None)
        query = (
            select(FEEDBACK.c.received, CARDS.c.uuid)
            .join(CARDS, CARDS.c.uuid == FEEDBACK.c.card)
            .where(CARDS.c.scope_hash == scope, CARDS.c.service == service, FEEDBACK.c.outcome == "overridden")
            .where(CARDS.c.client.is_not_distinct_from(asked.client), CARDS.c.tenant.is_not_distinct_from(asked.tenant))
            .order_by(FEEDBACK.c.received.desc())
            .limit(1)
        )
        with self._reading() as connection:
            found = connection.execute(query).first()
            if found is None:
                return None
            of_card = select(ESTIMATES.c.task, ESTIMATES.c.probability).where(ESTIMATES.c.card == found.uuid)
            seen = {row.task: row.probability for row in connection.execute(of_card)}
        return Override(_aware(found.received), seen)

    # Feedback and outcomes

    def add_feedback(self, entries: Sequence[Mapping[str, Any]]) -> int:
        """Stores all entries of one POST or none, a repeated entry once; returns the number of new ones."""
        new = 0
        with named("the feedback could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            for entry in entries:
                body = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
                fingerprint = hashlib.sha256(body).hexdigest()
                known = select(FEEDBACK.c.id).where(FEEDBACK.c.fingerprint == fingerprint)
                if connection.execute(known).first() is not None:
                    continue
                new += 1
                values = {"card": entry["card"], "outcome": entry["outcome"], "received": datetime.now(UTC)}
                connection.execute(insert(FEEDBACK).values(fingerprint=fingerprint, body=body.decode(), **values))
                # A comment may name the patient: the chain has only its hash, the table its text.
                audited = {"outcome": entry["outcome"], "fingerprint": fingerprint}
                audit.append(connection, "feedback", entry["card"], audited)
        return new

    def feedback(self) -> list[dict[str, Any]]:
        """All feedback in the order of arrival."""
        with self._reading() as connection:
            bodies = connection.execute(select(FEEDBACK.c.body).order_by(FEEDBACK.c.id)).scalars()
            return [orjson.loads(body) for body in bodies]

    def add_outcomes(self, outcomes: Sequence[tuple[str, str, bool]]) -> int:
        """Stores outcomes (card, task, happened), each once; returns the number of new ones."""
        new = 0
        with named("the outcomes could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            for card, task, happened in outcomes:
                known = select(OUTCOMES.c.id).where(OUTCOMES.c.card == card, OUTCOMES.c.task == task)
                if connection.execute(known).first() is None:
                    new += 1
                    values = {"happened": int(happened), "received": datetime.now(UTC)}
                    connection.execute(insert(OUTCOMES).values(card=card, task=task, **values))
            audit.append(connection, "outcomes", "", {"new": new})
        return new

    # Tokens and modes

    def first_use(self, issuer: str, jti: str, expires: datetime) -> bool:
        """Whether this issuer's token id is new; from now on it is used, in all workers and after restarts."""
        fingerprint = hashlib.sha256(f"{issuer}\n{jti}".encode()).hexdigest()
        with named("the token could not be recorded"):
            try:
                with self._engine.begin() as connection:
                    connection.execute(insert(SEEN_TOKENS).values(fingerprint=fingerprint, expires=expires))
                    self._uses += 1
                    if self._uses % _CLEAR_EVERY == 0:
                        connection.execute(delete(SEEN_TOKENS).where(SEEN_TOKENS.c.expires < datetime.now(UTC)))
            except IntegrityError:
                return False
        return True

    def modes(self) -> dict[tuple[str, str], str]:
        """(service, tenant) -> mode, as set by `riskcards mode`; "*" stands for all."""
        with self._reading() as connection:
            return {(row.service, row.tenant): row.mode for row in connection.execute(select(MODES))}

    def set_mode(self, service: str, tenant: str, mode: str, reason: str) -> None:
        """Sets a mode, in all workers within seconds and for good, with an audit entry."""
        values = {"mode": mode, "changed": datetime.now(UTC), "reason": reason}
        place = (MODES.c.service == service, MODES.c.tenant == tenant)
        with named("the mode could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            if connection.execute(update(MODES).where(*place).values(**values)).rowcount == 0:
                connection.execute(insert(MODES).values(service=service, tenant=tenant, **values))
            audit.append(connection, "mode", f"{service}/{tenant}"[:64], {"mode": mode, "reason": reason})

    # Audit, retention, health

    def record_event(self, kind: str, subject: str, body: Mapping[str, Any]) -> None:
        """Adds an audit entry for an event without a card: a refusal, or a change by an operator."""
        with named("the event could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            audit.append(connection, kind, subject, body)

    def verify_audit(self) -> Verification:
        """The verification of the whole chain, which is streamed."""
        with self._reading() as connection:
            return audit.verify(connection.execute(select(AUDIT).order_by(AUDIT.c.seq)).yield_per(500))

    def audit_entries(self, kind: str | None = None) -> list[AuditEntry]:
        """Audit entries, the oldest first."""
        query = select(AUDIT).order_by(AUDIT.c.seq)
        with self._reading() as connection:
            rows = connection.execute(query if kind is None else query.where(AUDIT.c.kind == kind)).all()
        return [_entry(row) for row in rows]

    def audit_hashes(self) -> dict[int, str]:
        """The hash of every audit entry by its number."""
        with self._reading() as connection:
            return {row.seq: row.hash for row in connection.execute(select(AUDIT.c.seq, AUDIT.c.hash))}

    def purge(self, before: datetime) -> int:
        """Deletes cards, estimates, feedback and outcomes before a time; the audit chain keeps their hashes.

        Returns the number of cards deleted.
        """
        old = select(CARDS.c.uuid).where(CARDS.c.created < before)
        with named("nothing could be removed"), self._engine.begin() as connection:
            audit.lock(connection)
            for table in (ESTIMATES, SUGGESTIONS, FEEDBACK, OUTCOMES):
                connection.execute(delete(table).where(table.c.card.in_(old)))
            connection.execute(delete(SEALED).where(SEALED.c.expires <= datetime.now(UTC)))
            gone = connection.execute(delete(CARDS).where(CARDS.c.created < before)).rowcount
            connection.execute(update(AUDIT).where(AUDIT.c.at < before.astimezone(UTC).isoformat()).values(body=None))
            audit.append(connection, "purge", "", {"before": before.astimezone(UTC).isoformat(), "cards": gone})
        return gone

    @property
    def kind(self) -> str:
        """The database and its version, such as SQLite 3.45.1 or PostgreSQL 16.2."""
        with self._reading() as connection:
            names = {
                "sqlite": ("SQLite", "SELECT sqlite_version()"),
                "postgresql": ("PostgreSQL", "SHOW server_version"),
            }
            name, query = names[connection.dialect.name]
            return f"{name} {connection.exec_driver_sql(query).scalar()}"

    def check(self) -> None:
        """Raises StoreError unless the database accepts a write: a read-only one can store no card."""
        with named("the database does not answer"), self._engine.begin() as connection:
            connection.execute(update(SALT).where(SALT.c.id == 1).values(id=1))

    def close(self) -> None:
        self._engine.dispose()


def _entry(row: Row[Any]) -> AuditEntry:
    body = None if row.body is None else orjson.loads(row.body)
    return AuditEntry(row.seq, row.at, row.kind, row.subject, body, row.hash)


def _aware(moment: datetime) -> datetime:
    """The time with zone: SQLite returns times without it; all stored times are UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
