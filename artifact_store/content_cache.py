"""A cache on disk, keyed by content and shared by processes.

One SQLite file in WAL mode: several processes may read and write it, writes are atomic, and each value has a checksum.
What is computed from records reveals patient data: the file is readable by its owner only.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

_CHECKSUM_BYTES = 4


class CacheError(Exception):
    """The file is not a cache, or cannot be read; deleting it loses nothing but time."""


class ContentCache:
    """ContentCache(path, most) keeps the `most` values written last.

    Raises CacheError where the file is not a cache. A damaged value reads as absent.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     cache = ContentCache(Path(folder) / "answers.sqlite", most=1000)
    ...     cache.put({content_key("question"): b"answer"})
    ...     cache.get([content_key("question"), content_key("another")]) == {content_key("question"): b"answer"}
    True
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most = path, max(1, most)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with self._opened() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS contents (id INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB)"
            )

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Returns the values of those keys that are known."""
        found: dict[bytes, bytes] = {}
        with self._opened() as database:
            for key in set(keys):
                row = database.execute("SELECT value FROM contents WHERE key = ?", (key,)).fetchone()
                value = None if row is None else _verified(row[0])
                if value is not None:
                    found[key] = value
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Stores the values in one transaction, and evicts the oldest."""
        rows = [(key, value + _checksum(value)) for key, value in values.items()]
        with self._opened() as database:
            database.executemany("INSERT OR REPLACE INTO contents (key, value) VALUES (?, ?)", rows)
            newest = database.execute("SELECT max(id) FROM contents").fetchone()[0] or 0
            database.execute("DELETE FROM contents WHERE id <= ?", (newest - self._most,))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction: connections are never shared between threads or forked processes."""
        try:
            with closing(sqlite3.connect(self._path, timeout=60)) as database, database:
                yield database
        except sqlite3.DatabaseError as error:
            raise CacheError(f"{self._path}: this cache cannot be read ({error}); delete the file") from None


def content_key(*parts: str) -> bytes:
    """Returns the SHA-256 of the parts, in order; a part cannot run into the next."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()


def _checksum(value: bytes) -> bytes:
    return zlib.crc32(value).to_bytes(_CHECKSUM_BYTES)


def _verified(stored: bytes) -> bytes | None:
    value, checksum = stored[:-_CHECKSUM_BYTES], stored[-_CHECKSUM_BYTES:]
    return value if _checksum(value) == checksum else None
