"""Reads tensors of an ONNX file without the onnx package, by parsing the needed protocol buffer fields."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.errors import EncoderError

# Field numbers of onnx.proto: ModelProto.graph; GraphProto.node, .initializer, .input; NodeProto.input, .output; and of
# TensorProto.
_GRAPH, _NODE, _INITIALIZER, _INPUT, _TAKES, _GIVES = 7, 1, 5, 11, 1, 2
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_FLOAT = 1
_TYPES: dict[int, Any] = {_FLOAT: np.dtype("<f4"), 3: np.dtype("i1")}
_Data = bytes | mmap.mmap


class _Field(NamedTuple):
    """One field of a message: its offset, the start and end of its content, its value if it is an integer."""

    number: int
    begins: int
    start: int
    end: int
    value: int


def tensors(path: Path, endings: tuple[str, ...]) -> list[NDArray[Any]]:
    """The initializers whose names end with `endings`, in that order: read-only views of the mapped file.

    Raises EncoderError where one is missing.
    """
    found: dict[str, NDArray[Any]] = {}
    data = _mapped(path)
    for item in _graph(data):
        if item.number == _INITIALIZER:
            _keep(data, item, endings, found)
    missing = [ending for ending in endings if ending not in found]
    if missing:
        raise EncoderError(f"{path.name} holds no tensor {missing[0]}")
    return [found[ending] for ending in endings]


def without_table(path: Path, table: str) -> tuple[bytes, str]:
    """(the model without the embedding table, the name of the input that replaces the lookup).

    Removes the tensors whose names begin with `table` and the nodes that expand and look it up. The new input is
    float32 of shape (batch, tokens, width). Raises EncoderError where no name begins with `table`.
    """
    data, looked_up = _mapped(path), ""
    parts: list[bytes] = []
    for item in _graph(data):
        if item.number == _INITIALIZER and _name_of(data, item).startswith(table):
            continue
        if item.number == _NODE:
            takes, gives = _words(data, item, _TAKES), _words(data, item, _GIVES)
            if any(name.startswith(table) for name in takes):
                looked_up = next((name for name in gives if not name.startswith(table)), looked_up)
                continue
        parts.append(data[item.begins : item.end])
    if not looked_up:
        raise EncoderError(f"{path.name} looks nothing up in {table}")
    shape = b"".join(_message(1, _message(2, name)) for name in (b"batch", b"tokens", b"width"))
    kind = _message(1, _whole_number(1, _FLOAT) + _message(2, shape))
    parts.append(_message(_INPUT, _message(1, looked_up.encode()) + _message(2, kind)))
    rest = [data[item.begins : item.end] for item in _fields(data, 0, len(data)) if item.number != _GRAPH]
    return b"".join((*rest, _message(_GRAPH, b"".join(parts)))), looked_up


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _graph(data: _Data) -> Iterator[_Field]:
    for item in _fields(data, 0, len(data)):
        if item.number == _GRAPH:
            yield from _fields(data, item.start, item.end)


def _words(data: _Data, message: _Field, number: int) -> set[str]:
    """The values of a repeated string."""
    fields = _fields(data, message.start, message.end)
    return {data[item.start : item.end].decode("utf-8", "replace") for item in fields if item.number == number}


def _name_of(data: _Data, tensor: _Field) -> str:
    return next(iter(_words(data, tensor, _NAME)), "")


def _keep(data: mmap.mmap, tensor: _Field, endings: tuple[str, ...], found: dict[str, NDArray[Any]]) -> None:
    ending = next((ending for ending in endings if _name_of(data, tensor).endswith(ending)), None)
    fields = list(_fields(data, tensor.start, tensor.end))
    kind = next((item.value for item in fields if item.number == _DATA_TYPE), 0)
    raw = next((item for item in fields if item.number == _RAW_DATA), None)
    if ending is not None and kind in _TYPES and raw is not None:
        shape = [item.value for item in fields if item.number == _DIMS]
        found[ending] = np.frombuffer(memoryview(data)[raw.start : raw.end], _TYPES[kind]).reshape(shape)


def _fields(data: _Data, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        begins = at
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, after = _varint(data, at)
            yield _Field(number, begins, at, after, value)
            at = after
            continue
        length, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        yield _Field(number, begins, at, at + length, 0)
        at += length


def _message(number: int, content: bytes) -> bytes:
    """A field of bytes, a string or a message.

    >>> _message(1, b"ab")
    b'\\n\\x02ab'
    """
    return _number(number << 3 | 2) + _number(len(content)) + content


def _whole_number(number: int, value: int) -> bytes:
    return _number(number << 3) + _number(value)


def _number(value: int) -> bytes:
    """
    >>> list(_number(150))
    [150, 1]
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _varint(data: _Data, at: int) -> tuple[int, int]:
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
