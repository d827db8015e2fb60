"""Encrypted storage for secrets that outlive a request: PKCE verifiers, sessions, tokens.

The key is a file (`RISKCARDS_SESSION_KEY_FILE`) outside the database: a stolen database gives access to no chart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from artifact_store import create_private_file
from cds_service.oauth.errors import SmartSetupError
from cds_service.store.sealed import SealedEntries


def fingerprint(secret: str) -> str:
    """The hash that is stored instead of a browser's secret; 256-bit secrets need no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Vault:
    """Vault(store.sealed, open_cipher(path)).put("launch", name, {...}, expires) · .take(...) · .get(...)

    An entry that was encrypted with another key, or moved from another entry, is not found. Raises StoreError.
    """

    entries: SealedEntries
    cipher: MultiFernet = field(repr=False)

    def put(self, kind: str, name: str, value: Mapping[str, Any], expires: datetime) -> bool:
        return self.entries.put(kind, fingerprint(name), self._seal(kind, name, value), expires)

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        return self._unseal(kind, name, self.entries.get(kind, fingerprint(name)))

    def at(self, kind: str, place: str) -> dict[str, Any] | None:
        """The entry of a fingerprint from a list."""
        body = self.entries.get(kind, place)
        return None if body is None else self._opened(kind, place, body)

    def get_many(self, kind: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The names that have an entry."""
        by_print = {fingerprint(name): name for name in names}
        found = self.entries.get_many(kind, list(by_print))
        opened = {by_print[place]: self._opened(kind, place, body) for place, body in found.items()}
        return {name: value for name, value in opened.items() if value is not None}

    def take(self, kind: str, name: str) -> dict[str, Any] | None:
        """Gets and removes an entry: of all workers only one gets it."""
        return self._unseal(kind, name, self.entries.take(kind, fingerprint(name)))

    def replace(self, kind: str, name: str, value: Mapping[str, Any], expires: datetime) -> bool:
        return self.entries.replace(kind, fingerprint(name), self._seal(kind, name, value), expires)

    def drop(self, kind: str, name: str) -> None:
        self.entries.drop(kind, fingerprint(name))

    def _seal(self, kind: str, name: str, value: Mapping[str, Any]) -> str:
        # Kind and fingerprint are authenticated with the content: write access to the database cannot move an entry.
        sealed = self.cipher.encrypt(orjson.dumps({"place": [kind, fingerprint(name)], "value": dict(value)}))
        return sealed.decode()

    def _unseal(self, kind: str, name: str, body: str | None) -> dict[str, Any] | None:
        return None if body is None else self._opened(kind, fingerprint(name), body)

    def _opened(self, kind: str, place: str, body: str) -> dict[str, Any] | None:
        try:
            opened = orjson.loads(self.cipher.decrypt(body.encode()))
        except InvalidToken:
            return None
        return dict(opened["value"]) if opened["place"] == [kind, place] else None


def open_cipher(path: Path) -> MultiFernet:
    """The cipher of a key file with one key per line, the first of which encrypts; the file is made if missing.

    Raises SmartSetupError.
    """
    try:
        if not path.exists():
            create_private_file(path, Fernet.generate_key() + b"\n")
        if path.stat().st_mode & 0o077:
            raise SmartSetupError(f"{path}: others may read this key; chmod 600 it")
        keys = path.read_text("ascii").split()
        return MultiFernet([Fernet(key) for key in keys])
    except OSError as error:
        raise SmartSetupError(f"{path}: the key of the sessions cannot be read or made ({error.strerror})") from None
    except SmartSetupError:
        raise
    except ValueError:
        raise SmartSetupError(f"{path}: expected Fernet keys, one a line (32 bytes as URL-safe base64)") from None
