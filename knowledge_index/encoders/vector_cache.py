"""An encoder whose vectors are cached on disk, in one file per encoder fingerprint.

Vectors of records reveal patient data: the cache is as confidential as the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifact_store import CacheError, ContentCache, content_key
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
        most = most_bytes // (4 * self.dimensions + _ROW_OVERHEAD)
        try:
            self._cache = ContentCache(folder / f"{content_key(self.fingerprint).hex()[:32]}.sqlite", most)
        except CacheError as error:
            raise EncoderError(str(error)) from None

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
        keys = [content_key(kind, text) for text in texts]
        try:
            known = self._read(keys)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            if missing:
                fresh = dict(zip(missing, make(list(missing.values())), strict=True))
                self._cache.put({key: vector.astype("<f4").tobytes() for key, vector in fresh.items()})
                known |= fresh
        except CacheError as error:
            raise EncoderError(str(error)) from None
        return np.stack([known[key] for key in keys]) if keys else np.zeros((0, self.dimensions), np.float32)

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        return {
            key: np.frombuffer(value, "<f4").astype(np.float32)
            for key, value in self._cache.get(keys).items()
            if len(value) == 4 * self.dimensions
        }
