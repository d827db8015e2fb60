"""The store: estimates, their numeric inputs, and the ids of the hook. No names, notes or resource content.

The patient is stored as a keyed hash; the key is in a file outside the database (`key.py`).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cds_service.store import audit
from cds_service.store.audit import AuditEntry, Verification
from cds_service.store.cards import CardHashes, cards_with, insert_card
from cds_service.store.engine import aware, default_key_file, file_of, open_engine, private_file, reading, upgrade
from cds_service.store.errors import StoreError, TooMuchFeedbackError, named, opening
from cds_service.store.history import History
from cds_service.store.key import StoreKey, load_key
from cds_service.store.purge import purge
from cds_service.store.reconcile import Reconciliation
from cds_service.store.refresh_queue import RefreshQueue
from cds_service.store.schema import (
    AUDIT,
    CARDS,
    ESTIMATES,
    FEEDBACK,
    MODES,
    OUTCOMES,
    SALT,
    SEEN_TOKENS,
    SUGGESTIONS,
)
from cds_service.store.sealed import SealedEntries
from cds_service.store.services import ServiceUses
from cds_service.store.values import UNSEEN, Asker, CardRecord, CardTasks, ImportedOutcomes, Override

__all__ = ["Asker", "CardRecord", "CardTasks", "ImportedOutcomes", "Override", "Store"]

# Expired token ids are deleted in passing by some of the writes, so that no job must be scheduled.
_CLEAR_EVERY = 256
MOST_FEEDBACK = 50
"""Entries stored for one card: clinicians answer it a few times, a client that repeats itself would fill the store."""


class Store:
    """Store("sqlite:///cards.db") · Store("postgresql://user:password@host/database", key_file=Path("database.key"))

    Opening migrates the schema, however long that takes. Every method raises StoreError if the database fails, or does
    not answer one step within `patience` seconds. `key_file` is made for a new database; by default it is beside the
    file of SQLite, else in the user's data folder. `keyless`: for entries that are encrypted already, on a machine that
    has no key; nothing about patients can then be written or verified.
    """

    def __init__(
        self, url: str, patience: float | None = None, key_file: Path | None = None, *, keyless: bool = False
    ) -> None:
        self._uses = 0
        self._loaded_key: StoreKey | None = None
        with opening(url):
            file = file_of(url)
            if file is not None:
                private_file(file)
            key_file = key_file or default_key_file(url)
            self._engine = open_engine(url)
            try:
                upgrade(self._engine)
                if not keyless:
                    with self._engine.begin() as connection:
                        audit.lock(connection)
                        self._loaded_key = load_key(connection, key_file)
            except BaseException:
                self._engine.dispose()
                raise
            if patience is not None:
                self._engine.dispose()
                self._engine = open_engine(url, patience)

    @property
    def _key(self) -> StoreKey:
        if self._loaded_key is None:
            raise StoreError("the database was opened without its key")
        return self._loaded_key

    @property
    def sealed(self) -> SealedEntries:
        """Encrypted entries: launches and sessions of the SMART app, leases."""
        return SealedEntries(self._engine)

    @property
    def refresh_queue(self) -> RefreshQueue:
        """The patients to estimate again, and the positions of the polls."""
        return RefreshQueue(self._engine)

    def resource_hash(self, server: str, resource: str) -> str:
        """The hash of a resource of one server, such as Patient/1: the place of its job and of its estimates."""
        return self._key.pseudonym("resource", server, resource)

    @property
    def services(self) -> ServiceUses:
        """The services that use this database."""
        return ServiceUses(self._engine)

    @property
    def history(self) -> History:
        """Queries for monitoring."""
        return History(self._engine)

    def patient_hash(self, patient: str) -> str:
        return self._key.pseudonym(patient)

    def scope_hash(self, patient: str, encounter: str | None, user: str) -> str:
        """The hash of one stay and user, by which overrides are found."""
        return self._key.pseudonym(patient, encounter or "", user)

    def user_hash(self, user: str) -> str:
        """The hash of a user such as Practitioner/17, by which a user's entries are found."""
        return self._key.pseudonym("user", user)

    def stay_hash(self, encounter: str) -> str:
        """The hash of a stay, given by the id of its encounter or a reference to it, which may name a version."""
        return self._key.pseudonym("stay", encounter.partition("/_history/")[0].rpartition("/")[2])

    # Cards

    def record_card(self, record: CardRecord) -> None:
        """Stores a card, its estimates and suggestions, and the audit entry that covers them, before it is sent."""
        hashes = CardHashes(
            patient=self.patient_hash(record.patient),
            scope=self.scope_hash(record.patient, record.encounter, record.user),
            user=self.user_hash(record.user),
            stay=self.stay_hash(record.encounter) if record.encounter else None,
        )
        with named("the card could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            insert_card(connection, self._key, record, hashes)

    def card_service(self, card: str, asker: Asker | None = None) -> str | None:
        """The service that sent this card; None if none did, or not to this client and tenant."""
        query = select(CARDS.c.service).where(CARDS.c.uuid == card)
        if asker is not None:
            query = query.where(CARDS.c.client == asker.client, CARDS.c.tenant.is_not_distinct_from(asker.tenant))
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def hook_of(self, card: str) -> str | None:
        """The hook instance of a card; of a page of the app, the mark of its session."""
        with reading(self._engine) as connection:
            return connection.execute(select(CARDS.c.hook_instance).where(CARDS.c.uuid == card)).scalar()

    def suggestions_of(self, card: str) -> frozenset[str]:
        with reading(self._engine) as connection:
            return frozenset(connection.execute(select(SUGGESTIONS.c.uuid).where(SUGGESTIONS.c.card == card)).scalars())

    def card_record(self, card: str) -> dict[str, Any] | None:
        """The audit entry of a card; None if there is none or retention has cleared it."""
        query = select(AUDIT.c.body).where(AUDIT.c.subject == card, AUDIT.c.kind == "card")
        with reading(self._engine) as connection:
            body = connection.execute(query).scalar()
        return None if body is None else orjson.loads(body)

    def warned_since(self, service: str, since: datetime, asker: Asker | None = None) -> tuple[int, int]:
        """(warnings shown, cards shown) of a service since a time, for the cap on the alert rate.

        Those of one client and tenant, which are one site's; another site's cards change nothing in its alert rate.
        """
        asked = asker or Asker(None, None)
        shown = (
            CARDS.c.service == service,
            CARDS.c.created >= since,
            CARDS.c.shown == "shown",
            CARDS.c.client.is_not_distinct_from(asked.client),
            CARDS.c.tenant.is_not_distinct_from(asked.tenant),
        )
        query = select(CARDS.c.summary_kind, func.count()).where(*shown).group_by(CARDS.c.summary_kind)
        with reading(self._engine) as connection:
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
        with reading(self._engine) as connection:
            found = connection.execute(query).first()
            if found is None:
                return None
            of_card = select(ESTIMATES.c.task, ESTIMATES.c.probability).where(ESTIMATES.c.card == found.uuid)
            seen = {row.task: row.probability for row in connection.execute(of_card)}
        return Override(aware(found.received), seen)

    # Feedback and outcomes

    def add_feedback(self, entries: Sequence[Mapping[str, Any]], user: str | None = None) -> int:
        """Stores all entries of one POST or none, a repeated entry once; returns the number of new ones.

        `user` is named in the audit entry by a hash, where it is known. Raises TooMuchFeedbackError.
        """
        new = 0
        with named("the feedback could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            for entry in entries:
                body = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
                fingerprint = hashlib.sha256(body).hexdigest()
                known = select(FEEDBACK.c.id).where(FEEDBACK.c.fingerprint == fingerprint)
                if connection.execute(known).first() is not None:
                    continue
                of_card = select(func.count()).where(FEEDBACK.c.card == entry["card"])
                if (connection.execute(of_card).scalar() or 0) >= MOST_FEEDBACK:
                    raise TooMuchFeedbackError
                new += 1
                values = {"card": entry["card"], "outcome": entry["outcome"], "received": datetime.now(UTC)}
                connection.execute(insert(FEEDBACK).values(fingerprint=fingerprint, body=body.decode(), **values))
                # A comment may name the patient: the chain has only its hash, the table its text.
                audited = {"outcome": entry["outcome"], "fingerprint": fingerprint} | (
                    {"user_hash": self.user_hash(user)} if user else {}
                )
                audit.append(connection, self._key, "feedback", entry["card"], audited)
        return new

    def feedback(self) -> list[dict[str, Any]]:
        """All feedback in the order of arrival."""
        with reading(self._engine) as connection:
            bodies = connection.execute(select(FEEDBACK.c.body).order_by(FEEDBACK.c.id)).scalars()
            return [orjson.loads(body) for body in bodies]

    def add_outcomes(self, outcomes: Sequence[tuple[str, str, bool]], by: str = "") -> ImportedOutcomes:
        """Stores outcomes (card, task, happened); one that is known and differs is corrected.

        `by` is the operator, named in the audit entry.
        """
        changed: list[tuple[str, str, bool]] = []
        new = 0
        with named("the outcomes could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            now = datetime.now(UTC)
            for card, task, happened in outcomes:
                place = (OUTCOMES.c.card == card, OUTCOMES.c.task == task)
                known = connection.execute(select(OUTCOMES.c.happened).where(*place)).scalar()
                values = {"happened": int(happened), "received": now}
                if known is None:
                    new += 1
                    connection.execute(insert(OUTCOMES).values(card=card, task=task, **values))
                elif bool(known) is not happened:
                    connection.execute(update(OUTCOMES).where(*place).values(**values))
                else:
                    continue
                changed.append((card, task, happened))
            body = {"new": new, "corrected": len(changed) - new, "outcomes": changed} | _by(by)
            audit.append(connection, self._key, "outcomes", "", body, now)
        return ImportedOutcomes(new, len(changed) - new)

    def cards_with(self, *, card: str = "", hook_instance: str = "", stay: str = "") -> list[CardTasks]:
        """The cards of that id, or sent for that hook, or about that stay (these without app pages and refreshes).

        UUIDs in any form, the stay as an id or a reference.
        """
        place: ColumnElement[bool] = CARDS.c.service.not_in(UNSEEN)
        if card:
            place = CARDS.c.uuid == _uuid(card)
        elif hook_instance:
            place = and_(place, CARDS.c.hook_instance == _uuid(hook_instance))
        else:
            place = and_(place, CARDS.c.stay_hash == self.stay_hash(stay))
        with reading(self._engine) as connection:
            return cards_with(connection, place)

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
        with reading(self._engine) as connection:
            return {(row.service, row.tenant): row.mode for row in connection.execute(select(MODES))}

    def set_mode(self, service: str, tenant: str, mode: str, reason: str, by: str = "") -> None:
        """Sets a mode, in all workers within seconds and for good, with an audit entry."""
        place = (MODES.c.service == service, MODES.c.tenant == tenant)
        with named("the mode could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            now = datetime.now(UTC)
            values = {"mode": mode, "changed": now, "reason": reason}
            if connection.execute(update(MODES).where(*place).values(**values)).rowcount == 0:
                connection.execute(insert(MODES).values(service=service, tenant=tenant, **values))
            body = {"mode": mode, "reason": reason, "service": service, "tenant": tenant} | _by(by)
            audit.append(connection, self._key, "mode", f"{service}/{tenant}"[:64], body, now)

    # Audit, retention, health

    def record_event(self, kind: str, subject: str, body: Mapping[str, Any]) -> None:
        """Adds an audit entry for an event without a card: a refusal, or a change by an operator."""
        with named("the event could not be recorded"), self._engine.begin() as connection:
            audit.lock(connection)
            audit.append(connection, self._key, kind, subject, body)

    def verify_audit(self) -> Verification:
        """The verification of the whole chain, which is streamed, and of the tables it covers."""
        # Of this query alone: as an option of the connection it would make a cursor of the server of every look-up.
        query = select(AUDIT).order_by(AUDIT.c.seq).execution_options(yield_per=500)
        with reading(self._engine, at_once=True) as connection:
            look = Reconciliation(connection)
            with connection.execute(query) as rows:
                found = audit.verify(look.loaded(rows.partitions()), self._key, look.entry)
            return found if found.fault else replace(found, fault=look.rest())

    def audit_entries(self, kind: str | None = None) -> list[AuditEntry]:
        """Audit entries, the oldest first."""
        return list(self.stream_audit(kind))

    def stream_audit(self, kind: str | None = None, after: int = 0) -> Iterator[AuditEntry]:
        """Audit entries after a number, the oldest first, streamed."""
        query = select(AUDIT).where(AUDIT.c.seq > after).order_by(AUDIT.c.seq)
        with reading(self._engine) as connection:
            of_kind = query if kind is None else query.where(AUDIT.c.kind == kind)
            with connection.execution_options(yield_per=500).execute(of_kind) as rows:
                yield from map(_entry, rows)

    def audit_hash(self, seq: int) -> str | None:
        """The hash of an audit entry; None if there is none of that number."""
        with reading(self._engine) as connection:
            return connection.execute(select(AUDIT.c.hash).where(AUDIT.c.seq == seq)).scalar()

    def sign_head(self, entries: int, head: str) -> str:
        """The signature of a head of the chain, by the key outside the database."""
        return self._key.seal(f"head {entries} {head}")

    def purge(self, before: datetime, by: str = "") -> int:
        """Deletes cards, estimates, feedback and outcomes before a time; the audit chain keeps their hashes.

        Returns the number of cards deleted.
        """
        return purge(self._engine, self._key, before, _by(by))

    @property
    def kind(self) -> str:
        """The database and its version, such as SQLite 3.45.1 or PostgreSQL 16.2."""
        with reading(self._engine) as connection:
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


def _uuid(text: str) -> str:
    """The form in which UUIDs are stored; another text in lower case.

    >>> _uuid("{C2702986-522C-4FDE-8E52-CB60FFB4B10C}"), _uuid("urn:uuid:c2702986-522c-4fde-8e52-cb60ffb4b10c")
    ('c2702986-522c-4fde-8e52-cb60ffb4b10c', 'c2702986-522c-4fde-8e52-cb60ffb4b10c')
    """
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return text.lower()


def _by(operator: str) -> dict[str, str]:
    return {"by": operator} if operator else {}


def _entry(row: Row[Any]) -> AuditEntry:
    body = None if row.body is None else orjson.loads(row.body)
    return AuditEntry(row.seq, row.at, row.kind, row.subject, body, row.hash)
