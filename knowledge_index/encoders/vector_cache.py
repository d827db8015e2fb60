"""A cache of vectors on disk, keyed by content and shared by processes.

One SQLite file per encoder fingerprint, in WAL mode: several processes may read and write it, writes are atomic, and
each row has a checksum. The cache is bounded and evicts the oldest vectors first. Vectors of records reveal patient
data: the file is readable by its owner only, and as confidential as the records.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.errors import EncoderError
from knowledge_index.encoders.long_text import TextPiece, pieces_of
from knowledge_index.encoders.protocol import Encoder, QueryEncoder, Vectors

MOST_BYTES = 2**30
_ROW_OVERHEAD = 64


class CachedEncoder:
    """CachedEncoder(encoder, folder): the same encoder, its vectors cached in `folder`.

    A damaged vector is computed again. Raises EncoderError where the file is not a cache.
    """

    def __init__(self, encoder: Encoder, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._encoder = encoder
        self.name, self.fingerprint, self.dimensions = encoder.name, encoder.fingerprint, encoder.dimensions
        self._most_rows = max(1, most_bytes // (4 * self.dimensions + _ROW_OVERHEAD))
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{hashlib.sha256(self.fingerprint.encode()).hexdigest()[:32]}.sqlite"
        self._path.touch(mode=0o600)
        with self._opened() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, key BLOB UNIQUE, vector BLOB)"
            )

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As the encoder's own."""
        return self._cached(texts, "document", self._encoder.encode)

    def encode_queries(self, texts: Sequence[str], instruction: str | None = None) -> Vectors:
        """As the encoder's own, cached by instruction too; encoded as documents where the encoder has no queries."""
        if not isinstance(self._encoder, QueryEncoder):
            return self.encode(texts)
        kind = "query" if instruction is None else f"query {instruction}"
        asked = self._encoder.encode_queries
        return self._cached(texts, kind, lambda missing: asked(missing, instruction))

    def pieces(self, text: str, instruction: str | None = None) -> list[TextPiece]:
        """As the encoder's own."""
        return pieces_of(self._encoder, text, instruction)

    def _cached(self, texts: Sequence[str], kind: str, make: Callable[[list[str]], Vectors]) -> Vectors:
        keys = [hashlib.sha256(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).digest() for text in texts]
        with self._opened() as database:
            known = self._read(database, keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = dict(zip(missing, make(list(missing.values())), strict=True))
            with self._opened() as database:
                self._write(database, fresh)
            known |= fresh
        return np.stack([known[key] for key in keys]) if keys else np.zeros((0, self.dimensions), np.float32)

    def _read(self, database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        found: dict[bytes, NDArray[np.float32]] = {}
        for key in set(keys):
            row = database.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
            vector = None if row is None else self._unpacked(row[0])
            if vector is not None:
                found[key] = vector
        return found

    def _write(self, database: sqlite3.Connection, vectors: dict[bytes, NDArray[np.float32]]) -> None:
        rows = [(key, _packed(vector)) for key, vector in vectors.items()]
        database.executemany("INSERT OR REPLACE INTO vectors (key, vector) VALUES (?, ?)", rows)
        newest = database.execute("SELECT max(id) FROM vectors").fetchone()[0]
        database.execute("DELETE FROM vectors WHERE id <= ?", (newest - self._most_rows,))

    def _unpacked(self, blob: bytes) -> NDArray[np.float32] | None:
        data, check = blob[:-4], blob[-4:]
        if len(data) != 4 * self.dimensions or zlib.crc32(data).to_bytes(4) != check:
            return None
        return np.frombuffer(data, "<f4").astype(np.float32)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction: connections are never shared between threads or forked processes."""
        try:
            with closing(sqlite3.connect(self._path, timeout=60)) as database, database:
                yield database
        except sqlite3.DatabaseError as error:
            raise EncoderError(f"{self._path}: the kept vectors cannot be read ({error}); delete the file") from None


def _packed(vector: NDArray[np.float32]) -> bytes:
    data = vector.astype("<f4").tobytes()
    return data + zlib.crc32(data).to_bytes(4)
