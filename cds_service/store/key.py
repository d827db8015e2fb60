"""The secret key of a database, in a file outside it: patients' hashes and the seals of the audit chain need it.

With the key inside the database, whoever has a copy of it finds a seven-digit record number from its hash in seconds.
The database keeps a check value, so that another key is noticed before it makes other hashes of the same patients.
The file also says how many entries the chain had before it was sealed: whoever may write to the database, and has no
key, could otherwise replace the whole chain by one without seals.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, func, insert, select, update

from artifact_store import create_private_file
from cds_service.store.errors import StoreError
from cds_service.store.schema import AUDIT, SALT

_FILE = re.compile(r"(?P<secret>[0-9a-f]{64})(\s+entries without seal: (?P<unsealed>\d+))?\Z")
_CHECK = "file:"


@dataclass(frozen=True, slots=True)
class StoreKey:
    """StoreKey(secret).pseudonym("p1") -> 64 hex digits · .seal(entry_hash) -> 64 hex digits

    `unsealed`: how many entries at the beginning of the chain have no seal; None if the file is of an older version.
    """

    secret: str = field(repr=False)
    unsealed: int | None = None

    def pseudonym(self, *parts: str) -> str:
        """The hash of a patient, or of a patient, stay and user."""
        return hashlib.sha256(":".join((self.secret, *parts)).encode()).hexdigest()

    def seal(self, text: str) -> str:
        """The authentication code of an entry of the audit chain, or of its head."""
        return hmac.new(f"audit:{self.secret}".encode(), text.encode(), hashlib.sha256).hexdigest()

    @property
    def check(self) -> str:
        """What the database keeps of it."""
        return _CHECK + hashlib.sha256(f"check:{self.secret}".encode()).hexdigest()[:32]


def load_key(connection: Connection, path: Path | None) -> StoreKey:
    """The key of the file, which is made if the database is new; without a path a new key that is kept nowhere.

    The salt of a database from before key files is moved into the file. Call it in a locked transaction. Raises
    StoreError for a file that is missing, unreadable, open to others, or of another database.
    """
    kept = connection.execute(select(SALT.c.value)).scalar()
    if path is None:
        key = StoreKey(secrets.token_hex(32), 0)
    elif path.exists() or (kept or "").startswith(_CHECK):
        key = _read(path)
    else:
        entries = connection.execute(select(func.count()).select_from(AUDIT)).scalar() or 0
        _write(path, StoreKey(kept or secrets.token_hex(32), entries))
        key = _read(path)  # of processes that start together the first has written it
    if kept is None:
        connection.execute(insert(SALT).values(id=1, value=key.check))
    elif kept == key.secret:
        connection.execute(update(SALT).where(SALT.c.id == 1).values(value=key.check))
    elif path is not None and kept != key.check:
        raise StoreError(
            f"{path} is not the key this database was begun with: its patients could not be found again and its audit "
            "chain not be verified; restore that key file, or name it with RISKCARDS_DATABASE_KEY_FILE"
        )
    return key


def _read(path: Path) -> StoreKey:
    try:
        if path.stat().st_mode & 0o077:
            raise StoreError(f"{path}: others may read this key; chmod 600 it")
        found = _FILE.match(path.read_text("ascii").strip())
    except FileNotFoundError:
        raise StoreError(
            f"{path}: the key of this database is missing; restore it from its backup, or name its file with "
            "RISKCARDS_DATABASE_KEY_FILE"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: the key of the database cannot be read ({error.__class__.__name__})") from None
    if found is None:
        raise StoreError(f"{path}: expected 64 hexadecimal digits, as this service wrote them")
    return StoreKey(found["secret"], None if found["unsealed"] is None else int(found["unsealed"]))


def _write(path: Path, key: StoreKey) -> None:
    try:
        create_private_file(path, f"{key.secret}\nentries without seal: {key.unsealed}\n".encode())
    except OSError as error:
        raise StoreError(f"{path}: the key of the database cannot be made ({error.strerror})") from None
