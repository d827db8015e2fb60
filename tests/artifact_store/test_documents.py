"""Configuration files of people: what cannot be used is refused with a reason, at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artifact_store import DocumentError, read_document
from artifact_store.documents import MAX_BYTES

REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", lambda path: None, "FileNotFoundError"),
    ("a folder", Path.mkdir, "IsADirectoryError"),
    ("a pipe without a writer", os.mkfifo, "not a regular file"),
    ("a device", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    ("a dangling link", lambda path: path.symlink_to("/nowhere"), "FileNotFoundError"),
    ("a link to itself", lambda path: path.symlink_to(path), "OSError"),
    ("no UTF-8", lambda path: path.write_bytes(b"\xff"), "not in UTF-8"),
    ("half written", lambda path: path.write_text('{"clients": [{"name"'), "neither JSON nor YAML"),
    ("two documents", lambda path: path.write_text("a: 1\n---\nb: 2\n"), "neither JSON nor YAML"),
    ("a key twice in JSON", lambda path: path.write_text('{"a": 1, "a": 2}'), "a occurs twice"),
    ("a key twice in YAML", lambda path: path.write_text("x:\n - a: 1\n   b: 2\n   a: 3\n"), "a occurs twice"),
    ("a number twice", lambda path: path.write_text("1: a\n0x1: b\n"), "occurs twice"),
    ("anchors", lambda path: path.write_text("a: &a [x]\nb: [*a, *a]\n"), "anchors"),
    ("deep", lambda path: path.write_text("[" * 50_000 + "]" * 50_000), "nested too deeply"),
    ("a Python object", lambda path: path.write_text("!!python/object/apply:os.system [ls]"), "neither JSON nor YAML"),
    ("large", lambda path: path.write_bytes(b"#" * (MAX_BYTES + 1)), "larger than 4 MiB"),
]


@pytest.mark.parametrize(("name", "make", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_used_is_refused(tmp_path: Path, name: str, make: Callable[[Path], object], reason: str) -> None:
    make(tmp_path / "file")
    with pytest.raises(DocumentError, match=reason):
        read_document(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}), ("a:\n  b: é\n", {"a": {"b": "é"}}), ("", None),
        ("[]", []), ("a: x & y\nb: '&c'\n", {"a": "x & y", "b": "&c"}),
        ('{"a": {"x": 1}, "b": {"x": 2}}', {"a": {"x": 1}, "b": {"x": 2}}),
    ],
)  # fmt: skip
def test_json_and_yaml_are_read_through_links(tmp_path: Path, text: str, value: object) -> None:
    (tmp_path / "real").write_text(text, "utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_document(tmp_path / "link") == value
