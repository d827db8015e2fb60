"""Reads small configuration files written by people: JSON or YAML in which nothing is lost silently."""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 64


class DocumentError(ValueError):
    """The document cannot be used; the message says why, without its name and its content. `line` is where, if known,
    from 1."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def read_document(path: Path, *, anchors: bool = False) -> Any:
    """Returns the one JSON or YAML document of a regular file, through links.

    Raises DocumentError as `parse_document` does, and for a pipe or device, which could block for ever.
    """
    try:
        return parse_document(_bytes(path).decode("utf-8"), anchors=anchors)
    except UnicodeDecodeError:
        raise DocumentError("cannot be read (not in UTF-8)") from None


def parse_document(text: str, *, anchors: bool = False) -> Any:
    """Returns the one JSON or YAML document of a text.

    Raises DocumentError, also for keys that occur twice, of which one would be lost, for what is nested too deeply,
    and, unless `anchors` are allowed, for these: a few lines of them expand to gigabytes.

    >>> parse_document("unit: g"), parse_document('{"unit": "g"}')
    ({'unit': 'g'}, {'unit': 'g'})
    >>> parse_document("unit: g\\nunit: mg")
    Traceback (most recent call last):
    artifact_store.documents.DocumentError: unit occurs twice
    """
    try:
        _check_events(text, anchors=anchors)
        return yaml.load(text, Loader=_EachKeyOnce)  # noqa: S506 - a safe loader; JSON is valid YAML
    except yaml.YAMLError as error:
        message = f"neither JSON nor YAML: {str(error).splitlines()[0]}"
        raise DocumentError(message, _line(getattr(error, "problem_mark", None))) from None


def _line(mark: Any) -> int | None:
    return None if mark is None else int(mark.line) + 1


def _check_events(text: str, *, anchors: bool) -> None:
    """Raises DocumentError for anchors and for deep nesting, at which the loader written in C ends the process."""
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise DocumentError("nested too deeply", _line(event.start_mark))
        if not anchors and getattr(event, "anchor", None) is not None:
            raise DocumentError("YAML anchors are not allowed; write out the values", _line(event.start_mark))


def _bytes(path: Path) -> bytes:
    try:
        # Not to wait for the writer of a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DocumentError("cannot be read (not a regular file)")
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"cannot be read ({error.__class__.__name__})") from None
    if len(raw) > MAX_BYTES:
        raise DocumentError(f"larger than {MAX_BYTES // 2**20} MiB")
    return raw


class _EachKeyOnce(yaml.CSafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            names = [str(key.value) for key, _ in node.value]
            twice = next((name for name in names if names.count(name) > 1), "a key")
            raise DocumentError(f"{twice} occurs twice", _line(node.start_mark))
        return found
