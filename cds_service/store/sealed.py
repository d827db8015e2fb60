"""Encrypted entries with an expiry: pending launches, sessions, leases.

The database has a kind, a fingerprint, an expiry and ciphertext. An expired entry is never returned, whether or not it
has been deleted yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cds_service.store.engine import reading
from cds_service.store.errors import named
from cds_service.store.schema import SEALED


@dataclass(frozen=True, slots=True)
class SealedEntries:
    """store.sealed.put("launch", fingerprint, ciphertext, expires) · .take(...) · .get(...)   Raise StoreError."""

    engine: Engine

    def put(self, kind: str, fingerprint: str, body: str, expires: datetime) -> bool:
        """Stores a new entry; False if an unexpired one of that name exists. Also deletes expired entries."""
        values = {"kind": kind, "fingerprint": fingerprint, "body": body, "expires": expires}
        with named("the entry could not be kept"):
            try:
                with self.engine.begin() as connection:
                    connection.execute(delete(SEALED).where(SEALED.c.expires <= datetime.now(UTC)))
                    connection.execute(insert(SEALED).values(**values))
            except IntegrityError:
                return False
        return True

    def get(self, kind: str, fingerprint: str) -> str | None:
        query = select(SEALED.c.body).where(*_living(kind, fingerprint))
        with reading(self.engine, "the entry could not be read") as connection:
            return connection.execute(query).scalar()

    def get_many(self, kind: str, fingerprints: Sequence[str]) -> dict[str, str]:
        """The unexpired entries of these fingerprints, by fingerprint."""
        living = (SEALED.c.kind == kind, SEALED.c.fingerprint.in_(fingerprints), SEALED.c.expires > datetime.now(UTC))
        query = select(SEALED.c.fingerprint, SEALED.c.body).where(*living)
        with reading(self.engine, "the entries could not be read") as connection:
            return {row.fingerprint: row.body for row in connection.execute(query)}

    def oldest(self, kind: str, most: int) -> list[str]:
        """Fingerprints of the entries that expire first."""
        living = (SEALED.c.kind == kind, SEALED.c.expires > datetime.now(UTC))
        query = select(SEALED.c.fingerprint).where(*living).order_by(SEALED.c.expires).limit(most)
        with reading(self.engine, "the entries could not be read") as connection:
            return list(connection.execute(query).scalars())

    def count(self, kind: str) -> int:
        query = select(func.count()).where(SEALED.c.kind == kind, SEALED.c.expires > datetime.now(UTC))
        with reading(self.engine, "the entries could not be counted") as connection:
            return int(connection.execute(query).scalar() or 0)

    def take(self, kind: str, fingerprint: str) -> str | None:
        """The entry, which is then deleted: of concurrent calls, in any worker, only one gets it."""
        query = delete(SEALED).where(*_living(kind, fingerprint)).returning(SEALED.c.body)
        with named("the entry could not be taken"), self.engine.begin() as connection:
            return connection.execute(query).scalar()

    def replace(self, kind: str, fingerprint: str, body: str, expires: datetime) -> bool:
        """Replaces the content of an unexpired entry; False if there is none."""
        query = update(SEALED).where(*_living(kind, fingerprint)).values(body=body, expires=expires)
        with named("the entry could not be changed"), self.engine.begin() as connection:
            return connection.execute(query).rowcount == 1

    def drop(self, kind: str, fingerprint: str) -> None:
        with named("the entry could not be removed"), self.engine.begin() as connection:
            connection.execute(delete(SEALED).where(SEALED.c.kind == kind, SEALED.c.fingerprint == fingerprint))


def _living(kind: str, fingerprint: str) -> tuple[Any, ...]:
    return SEALED.c.kind == kind, SEALED.c.fingerprint == fingerprint, SEALED.c.expires > datetime.now(UTC)
