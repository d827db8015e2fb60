"""The audit chain: each entry's hash covers the one before it, so that a changed, missing or inserted entry shows.

    hash(n) = sha256(hash(n-1) | n | at | kind | subject | sha256(body))

Without its last entries the chain is still valid: `riskcards audit head` prints the last number and hash, to be kept
outside the reach of the database's owner, and `riskcards audit verify --head` checks against them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, insert, select, text

from cds_service.store.schema import AUDIT

GENESIS = "0" * 64
# An arbitrary advisory lock id, the same in every process: PostgreSQL's writers of the chain wait for it.
_LOCK = 0x7269736B


@dataclass(frozen=True, slots=True)
class AuditEntry:
    seq: int
    at: str
    kind: str
    subject: str
    body: Mapping[str, Any] | None
    hash: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification; `fault` names the first invalid entry, None if there is none."""

    entries: int
    head: str
    fault: str | None


def lock(connection: Connection) -> None:
    """Waits until this transaction alone may add to the chain; SQLite has only one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def append(connection: Connection, kind: str, subject: str, body: Mapping[str, Any]) -> None:
    """Adds one entry in the caller's locked transaction, so that the change and its entry are stored together."""
    last = connection.execute(select(AUDIT.c.seq, AUDIT.c.hash).order_by(AUDIT.c.seq.desc()).limit(1)).first()
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    written = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    at = datetime.now(UTC).isoformat()
    digest = hashlib.sha256(written).hexdigest()
    connection.execute(
        insert(AUDIT).values(
            seq=seq,
            at=at,
            kind=kind,
            subject=subject,
            body=written.decode(),
            body_hash=digest,
            hash=_link(previous, seq, at, kind, subject, digest),
        )
    )


def verify(rows: Iterable[Any]) -> Verification:
    """The verification of a chain from its first entry; `rows` of the table in the order of `seq`."""
    previous, expected = GENESIS, 1
    for row in rows:
        if row.seq != expected:
            return Verification(expected - 1, previous, f"entry {expected} is missing")
        if row.body is not None and hashlib.sha256(row.body.encode()).hexdigest() != row.body_hash:
            return Verification(expected - 1, previous, f"entry {row.seq}: its content was changed")
        if row.hash != _link(previous, row.seq, row.at, row.kind, row.subject, row.body_hash):
            return Verification(expected - 1, previous, f"entry {row.seq}: it does not follow from the one before")
        previous, expected = row.hash, expected + 1
    return Verification(expected - 1, previous, None)


def _link(previous: str, seq: int, at: str, kind: str, subject: str, body_hash: str) -> str:
    return hashlib.sha256("|".join((previous, str(seq), at, kind, subject, body_hash)).encode()).hexdigest()
