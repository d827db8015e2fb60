"""Short-lived entries whose content only the service can read: launches under way, sessions, leases.

The database sees a kind, a fingerprint, an expiry and ciphertext. An entry past its expiry is as if it were not there,
whether or not it has been removed yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cds_service.store.errors import named
from cds_service.store.schema import SEALED


@dataclass(frozen=True, slots=True)
class SealedEntries:
    """store.sealed.put("launch", fingerprint, ciphertext, expires) · .take(...) · .get(...)   Raise StoreError."""

    engine: Engine

    def put(self, kind: str, fingerprint: str, body: str, expires: datetime) -> bool:
        """Keep a new entry; False when a living one of that name is there. What has expired goes on the way."""
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
        with named("the entry could not be read"), self.engine.connect() as connection:
            return connection.execution_options(reading=True).execute(query).scalar()

    def get_many(self, kind: str, fingerprints: Sequence[str]) -> dict[str, str]:
        """Those there are, by fingerprint."""
        living = (SEALED.c.kind == kind, SEALED.c.fingerprint.in_(fingerprints), SEALED.c.expires > datetime.now(UTC))
        query = select(SEALED.c.fingerprint, SEALED.c.body).where(*living)
        with named("the entries could not be read"), self.engine.connect() as connection:
            return {row.fingerprint: row.body for row in connection.execution_options(reading=True).execute(query)}

    def oldest(self, kind: str, most: int) -> list[str]:
        """Fingerprints of those that expire first."""
        living = (SEALED.c.kind == kind, SEALED.c.expires > datetime.now(UTC))
        query = select(SEALED.c.fingerprint).where(*living).order_by(SEALED.c.expires).limit(most)
        with named("the entries could not be read"), self.engine.connect() as connection:
            return list(connection.execution_options(reading=True).execute(query).scalars())

    def count(self, kind: str) -> int:
        query = select(func.count()).where(SEALED.c.kind == kind, SEALED.c.expires > datetime.now(UTC))
        with named("the entries could not be counted"), self.engine.connect() as connection:
            return int(connection.execution_options(reading=True).execute(query).scalar() or 0)

    def take(self, kind: str, fingerprint: str) -> str | None:
        """The entry, which is then gone: of several that take at once, in any worker, one gets it."""
        query = delete(SEALED).where(*_living(kind, fingerprint)).returning(SEALED.c.body)
        with named("the entry could not be taken"), self.engine.begin() as connection:
            return connection.execute(query).scalar()

    def replace(self, kind: str, fingerprint: str, body: str, expires: datetime) -> bool:
        """New content for a living entry; False when there is none any more."""
        query = update(SEALED).where(*_living(kind, fingerprint)).values(body=body, expires=expires)
        with named("the entry could not be changed"), self.engine.begin() as connection:
            return connection.execute(query).rowcount == 1

    def drop(self, kind: str, fingerprint: str) -> None:
        with named("the entry could not be removed"), self.engine.begin() as connection:
            connection.execute(delete(SEALED).where(SEALED.c.kind == kind, SEALED.c.fingerprint == fingerprint))


def _living(kind: str, fingerprint: str) -> tuple[Any, ...]:
    return SEALED.c.kind == kind, SEALED.c.fingerprint == fingerprint, SEALED.c.expires > datetime.now(UTC)
