"""Reads the documents of BioC JSON files as a stream: a collection, a list, PubTator 3's answer, or one document a
line.

A document is the object that holds `passages` (BioC JSON of Comeau et al., Bioinformatics 2019; PubTator 3's export).
The text is split into documents before parsing: memory holds one, and a malformed document affects only itself, since
reading resumes at the start of the next object.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from knowledge_index.core.errors import ArticleError
from knowledge_index.sources.pubmed_xml import chunks
from knowledge_index.sources.records import MAX_RECORD, Refuse, open_stream, raise_it, unreadable

_TOKEN = re.compile(
    rb'\s+|(?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*)*")|(?P<open>[{\[])|(?P<close>[}\]])|(?P<mark>[:,])'
    rb"|(?P<plain>(?:true|false|null|-?[0-9][0-9.eE+-]*)(?=[\s,}\]]))"
)
_OBJECT = re.compile(rb'\{\s*"')
_UNFINISHED = re.compile(rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*\\?\Z|[-+0-9.eEa-z]{1,40}\Z')
_ID = re.compile(rb'"(?:pmid|id)"\s*:\s*"?([0-9A-Za-z]{1,40})')
_WRAPPERS = (b'"documents"', b'"PubTator3"')


@dataclass(slots=True)
class _Container:
    """An open object or list: its start, the current key, and whether it contains passages."""

    start: int
    closes: bytes
    key: bytes = b""
    document: bool = False
    wrapper: bool = False


@dataclass(slots=True)
class Cutter:
    """The unread buffer and its open containers."""

    held: bytes = b""
    at: int = 0
    open: list[_Container] = field(default_factory=list)
    before: bytes = b""
    lost: bool = False

    def documents(self, chunk: bytes, last: bool) -> Iterator[bytes | str]:
        """The bytes of each complete document, or an error message for a malformed one."""
        self.held += chunk
        while self.at < len(self.held):
            if self.lost and not self._found_again():
                return
            token = _TOKEN.match(self.held, self.at)
            if token is None:
                if not last and _UNFINISHED.match(self.held, self.at):
                    return
                yield self._lose("malformed JSON")
                continue
            problem = self._problem(token)
            if problem:
                yield self._lose(problem)
                continue
            self.at = token.end()
            if whole := self._take(token):
                yield whole

    def _found_again(self) -> bool:
        found = _OBJECT.search(self.held, self.at)
        self.at = found.start() if found else max(self.at, len(self.held) - 64)
        self.lost = found is None
        return not self.lost

    def _problem(self, token: re.Match[bytes]) -> str:
        """A syntax error: brackets that do not match, an object in place of a key; else empty."""
        inside = self.open[-1].closes if self.open else b""
        if token["close"] and inside and token["close"] != inside:
            return f"malformed JSON: {token['close'].decode()} where {inside.decode()} must come"
        if token["open"] and inside == b"}" and self.before != b":":
            return "malformed JSON: a value without a key"
        return ""

    def _take(self, token: re.Match[bytes]) -> bytes:
        """The document closed by this token, or nothing."""
        if token["open"]:
            self.open.append(_Container(token.start(), b"}" if token["open"] == b"{" else b"]"))
        elif token["string"] and self.open and self.before in (b"{", b","):
            self.open[-1].key = token["string"]
        elif token["mark"] == b":" and self.open:
            self.open[-1].document |= self.open[-1].key == b'"passages"'
            self.open[-1].wrapper |= self.open[-1].key in _WRAPPERS
        elif token["close"] and self.open:
            closed = self.open.pop()
            if closed.document:
                self.before = token["close"]
                return self.held[closed.start : self.at]
        if not token.group().isspace():
            self.before = token["open"] or token["close"] or token["mark"] or b"value"
        return b""

    def _lose(self, problem: str) -> str:
        start = next((c.start for c in self.open if c.closes == b"}" and not c.wrapper), self.at)
        self.lost, self.open, self.before = True, [], b""
        named = _ID.search(self.held, start)
        # An object without a key may be the next document where the last was not closed.
        self.at += not self.held.startswith(b"{", self.at)
        return f"{problem}; in the document {named[1].decode()}" if named and named.start() <= self.at else problem

    def forget(self) -> None:
        """Discards the part of the buffer that no open document needs."""
        first = next((c.start for c in self.open if c.closes == b"}" and not c.wrapper), self.at)
        self.held, self.at = self.held[first:], self.at - first
        for container in self.open:
            container.start -= first


def _with_end(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each chunk, then an empty last one: readable data before a defect in an archive is used first."""
    first = next(pieces, b"")
    yield first.removeprefix(b"\xef\xbb\xbf"), False
    yield from ((piece, False) for piece in pieces)
    yield b"", True


def read_bioc_json(path: Path, refuse: Refuse = raise_it) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, document) of a file, plain or .gz; malformed documents go to `refuse` with their number and, where
    known, their id.
    """
    cutter, number = Cutter(), 0

    def parsed(found: bytes | str) -> dict[str, Any] | None:
        try:
            if isinstance(found, str):
                raise ValueError(found)
            document: dict[str, Any] = orjson.loads(found)
            return document
        except ValueError as error:
            refuse(ArticleError(str(error), file=str(path), record=str(number)))
            return None

    try:
        with open_stream(path) as stream:
            for chunk, last in _with_end(chunks(stream)):
                for found in cutter.documents(chunk, last):
                    number += 1
                    document = parsed(found)
                    if document is not None:
                        yield number, document
                cutter.forget()
                if len(cutter.held) > MAX_RECORD:
                    raise ValueError(f"a record without end after {MAX_RECORD} bytes")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        refuse(unreadable(path, error, f"after record {number}"))
        return
    if cutter.open:
        refuse(ArticleError("the file ends inside this record", file=str(path), record=str(number + 1)))
    elif number == 0:
        refuse(ArticleError("no object with passages: not such a file", file=str(path), record="none"))
