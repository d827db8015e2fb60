"""Reads plain data out of a pickle file without unpickling it.

Some packages ship their word lists as pickles. Unpickling executes code from the file; here `pickletools` only parses
the opcodes, and those for dictionaries, lists, tuples, strings, numbers, booleans and None are interpreted. Any other
opcode (a class, a call) is an error, so a hostile file is rejected.
"""

from __future__ import annotations

import pickletools
from typing import Any

from knowledge_index.core.errors import ArtifactError

_MARK = object()
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_VALUES = frozenset(
    ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "BININT", "BININT1", "BININT2", "INT", "LONG",
     "LONG1", "LONG4", "FLOAT", "BINFLOAT")
)  # fmt: skip
_CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None}
_NOTHING = frozenset(("PROTO", "FRAME", "STOP"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))


def read(content: bytes, path: str) -> Any:
    """The plain data in a pickle. Raises `ArtifactError` with `path` for anything else."""
    reader = _Reader(path)
    try:
        for opcode, argument, _ in pickletools.genops(content):
            reader.take(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise ArtifactError(f"not a readable pickle: {error}", path=path) from error
    if len(reader.stack) != 1:
        raise ArtifactError("not a readable pickle: more or less than one value", path=path)
    return reader.stack[0]


class _Reader:
    """The stack and the memo of the pickle machine."""

    def __init__(self, path: str) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._path = path

    def take(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in _PUTS:
            self._memo[len(self._memo) if argument is None else argument] = self.stack[-1]
        elif name in _GETS:
            self.stack.append(self._memo[argument])
        elif name not in _NOTHING:
            self._gather(name)

    def _gather(self, name: str) -> None:
        if name in ("APPEND", "APPENDS"):
            items = self._since_mark() if name == "APPENDS" else [self.stack.pop()]
            self.stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._since_mark() if name == "SETITEMS" else [self.stack.pop(-2), self.stack.pop()]
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif name == "TUPLE":
            self.stack.append(tuple(self._since_mark()))
        else:
            raise ArtifactError(f"holds more than plain data ({name}): it is not read", path=self._path)

    def _since_mark(self) -> list[Any]:
        at = max(place for place, item in enumerate(self.stack) if item is _MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items
