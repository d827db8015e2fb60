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
    """The file cannot be used; the message says why, without its name and its content."""


def read_document(path: Path) -> Any:
    """Returns the one JSON or YAML document of a regular file, through links.

    Raises DocumentError, also for a pipe or device, which could block for ever, for keys that stand twice, of which one
    would be lost, for anchors, a few lines of which expand to gigabytes, and for what is nested too deeply.
    """
    raw = _bytes(path)
    try:
        text = raw.decode("utf-8")
        _check_events(text)
        return yaml.load(text, Loader=_EachKeyOnce)  # noqa: S506 - a safe loader; JSON is valid YAML
    except UnicodeDecodeError:
        raise DocumentError("cannot be read (not in UTF-8)") from None
    except yaml.YAMLError as error:
        raise DocumentError(f"neither JSON nor YAML: {str(error).splitlines()[0]}") from None


def _check_events(text: str) -> None:
    """Raises DocumentError for anchors and for deep nesting, at which the loader written in C ends the process."""
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise DocumentError("nested too deeply")
        if getattr(event, "anchor", None) is not None:
            raise DocumentError("YAML anchors are not allowed; write out the values")


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
            raise DocumentError(f"{twice} stands twice")
        return found
