"""One tensor out of an ONNX file, without the onnx package: the few fields of its protocol buffers that lead there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge_index.errors import EncoderError

# Field numbers of onnx.proto: ModelProto.graph, GraphProto.initializer, and of TensorProto.
_GRAPH, _INITIALIZER, _DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 7, 5, 1, 2, 8, 9
_TYPES: dict[int, Any] = {1: np.dtype("<f4"), 3: np.dtype("i1")}
_Field = tuple[int, int, int, int]


def tensors(path: Path, endings: tuple[str, ...]) -> list[NDArray[Any]]:
    """The initializers whose names end so, in that order. Raises EncoderError where the file does not hold them."""
    data = path.read_bytes()
    found: dict[str, NDArray[Any]] = {}
    for number, graph_start, graph_end, _ in _fields(data, 0, len(data)):
        if number == _GRAPH:
            for item in _fields(data, graph_start, graph_end):
                if item[0] == _INITIALIZER:
                    _keep(data, item, endings, found)
    missing = [ending for ending in endings if ending not in found]
    if missing:
        raise EncoderError(f"{path.name} holds no tensor {missing[0]}")
    return [found[ending] for ending in endings]


def _keep(data: bytes, item: _Field, endings: tuple[str, ...], found: dict[str, NDArray[Any]]) -> None:
    shape: list[int] = []
    kind, name, raw = 0, "", b""
    for number, start, end, value in _fields(data, item[1], item[2]):
        if number == _DIMS:
            shape.append(value)
        elif number == _DATA_TYPE:
            kind = value
        elif number == _NAME:
            name = data[start:end].decode("utf-8", "replace")
        elif number == _RAW_DATA:
            raw = data[start:end]
    ending = next((ending for ending in endings if name.endswith(ending)), None)
    if ending is not None and kind in _TYPES:
        found[ending] = np.frombuffer(raw, _TYPES[kind]).reshape(shape)


def _fields(data: bytes, at: int, end: int) -> Iterator[_Field]:
    """(field number, where its bytes begin, where they end, its value if it is a whole number)."""
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, after = _varint(data, at)
            yield number, at, after, value
            at = after
            continue
        length, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        yield number, at, at + length, 0
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """
    >>> _varint(bytes([0b10010110, 1]), 0)
    (150, 2)
    """
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
