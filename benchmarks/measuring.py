"""What the retrieval benchmarks share: vectors that are made once, figures that are rounded, results that are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from knowledge_index import MiniLMEncoder
from knowledge_index.encoder import available_threads

_BATCH = 512


class Remembering:
    """The default encoder with its vectors kept in a folder by content hash, so that a run that was stopped goes on
    where it was, and a second run encodes nothing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._encoder = MiniLMEncoder(threads=min(2, available_threads()))
        self.name, self.dimensions = self._encoder.name, self._encoder.dimensions
        self.fingerprint = self._encoder.fingerprint
        self._known: dict[str, NDArray[np.float32]] = {}
        for path in sorted(folder.glob("*.npz")):
            with np.load(path, allow_pickle=False) as kept:
                self._known.update(zip(kept["keys"].tolist(), kept["vectors"], strict=True))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        listed = list(missing)
        for start in range(0, len(listed), _BATCH):
            self._keep(listed[start : start + _BATCH], missing)
        empty = np.zeros((0, self.dimensions), np.float32)
        return np.stack([self._known[key] for key in keys]) if keys else empty

    def _keep(self, keys: list[str], texts: dict[str, str]) -> None:
        vectors = self._encoder.encode([texts[key] for key in keys])
        self._known.update(zip(keys, vectors, strict=True))
        # Questions come one at a time and cost little; only work worth keeping is written.
        if len(keys) >= _BATCH // 8:
            unfinished = self._folder / f"{keys[0][:16]}.part"
            with unfinished.open("wb") as stream:
                np.savez(stream, keys=np.array(keys), vectors=vectors)
            unfinished.rename(unfinished.with_suffix(".npz"))


def rounded(value: Any, digits: int = 4) -> Any:
    """Every float of a nested result with four places: what differs behind them is chance."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return value


def write(path: Path, result: dict[str, Any]) -> None:
    """Keep a result as JSON and show it."""
    text = orjson.dumps(rounded(result), option=orjson.OPT_INDENT_2)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text + b"\n")
    print(text.decode())
