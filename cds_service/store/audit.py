"""The audit chain: each entry's hash covers the one before it, so that a changed, missing or inserted entry shows.

    hash(n) = sha256(hash(n-1) | n | at | kind | subject | sha256(body))
    seal(n) = HMAC-SHA256(key outside the database, hash(n))

Whoever can write to the database can make another chain, but not its seals. Without its last entries the chain is still
valid: `riskcards audit head` prints the last number, hash and a signature, to be kept outside the reach of the
database's owner, and `riskcards audit verify --head` checks against them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, insert, select, text

from cds_service.store.key import StoreKey
from cds_service.store.schema import AUDIT

GENESIS = "0" * 64
# An arbitrary advisory lock id, the same in every process: PostgreSQL's writers of the chain wait for it.
_LOCK = 0x7269736B
Look = Callable[[Any, Mapping[str, Any] | None], str | None]
"""(row of the chain, its content or None where it was emptied) -> a fault, or None"""


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


def append(
    connection: Connection,
    key: StoreKey,
    kind: str,
    subject: str,
    body: Mapping[str, Any],
    at: datetime | None = None,
) -> None:
    """Adds one entry in the caller's locked transaction, so that the change and its entry are stored together."""
    last = connection.execute(select(AUDIT.c.seq, AUDIT.c.hash).order_by(AUDIT.c.seq.desc()).limit(1)).first()
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    written = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    moment = (at or datetime.now(UTC)).isoformat()
    digest = hashlib.sha256(written).hexdigest()
    link = _link(previous, seq, moment, kind, subject, digest)
    connection.execute(
        insert(AUDIT).values(
            seq=seq,
            at=moment,
            kind=kind,
            subject=subject,
            body=written.decode(),
            body_hash=digest,
            hash=link,
            seal=key.seal(link),
        )
    )


def verify(rows: Iterable[Any], key: StoreKey, look: Look | None = None) -> Verification:
    """The verification of a chain from its first entry; `rows` of the table in the order of `seq`.

    `look` is called with every entry that is intact, to compare it with what the other tables hold.
    """
    previous, expected, sealed = GENESIS, 1, False
    for row in rows:
        fault = _fault(row, previous, expected, key, sealed)
        if fault is None and look is not None:
            fault = look(row, None if row.body is None else orjson.loads(row.body))
        if fault is not None:
            return Verification(expected - 1, previous, fault)
        previous, expected, sealed = row.hash, expected + 1, sealed or row.seal is not None
    return Verification(expected - 1, previous, None)


def _fault(row: Any, previous: str, expected: int, key: StoreKey, sealed: bool) -> str | None:
    if row.seq != expected:
        return f"entry {expected} is missing"
    if row.body is not None and hashlib.sha256(row.body.encode()).hexdigest() != row.body_hash:
        return f"entry {row.seq}: its content was changed"
    if row.hash != _link(previous, row.seq, row.at, row.kind, row.subject, row.body_hash):
        return f"entry {row.seq}: it does not follow from the one before"
    # Entries from before seals come first; after the first seal, and after those the key file tells of, all have one.
    sealed |= key.unsealed is not None and row.seq > key.unsealed
    unsealed = sealed if row.seal is None else not hmac.compare_digest(row.seal, key.seal(row.hash))
    return f"entry {row.seq}: its seal is not of this service's key" if unsealed else None


def _link(previous: str, seq: int, at: str, kind: str, subject: str, body_hash: str) -> str:
    return hashlib.sha256("|".join((previous, str(seq), at, kind, subject, body_hash)).encode()).hexdigest()
