"""Shared by the retrieval benchmarks: cached vectors, rounded figures, results written as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from knowledge_index import MiniLMEncoder
from knowledge_index.encoders import CachedEncoder, available_threads


class Remembering(CachedEncoder):
    """The default encoder with its vectors kept in a folder by content hash, so that a run that was stopped goes on
    where it was, and a second run encodes nothing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(MiniLMEncoder(threads=min(2, available_threads())), folder)


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
