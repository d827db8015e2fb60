"""Folders with a manifest: the forms on disk, and every way in which one is malformed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from artifact_store import (
    FileEntry,
    ManifestError,
    ManifestMissingError,
    damaged_files,
    open_manifest,
    sha256_of,
    write_manifest,
)

CONTENT = b"weights"
ENTRY = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": 7}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.bin").write_bytes(CONTENT)
    (folder / "b.bin").write_bytes(b"")
    write_manifest(folder, {"format": 1}, ["a.bin", "b.bin"])
    return folder


def with_files(files: object) -> Callable[[Path], None]:
    """A change that replaces `files` in the manifest."""

    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "files": files}))

    return change


def with_manifest(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "manifest.json").write_bytes(content) and None


def link_to_outside(folder: Path) -> None:
    (folder / "a.bin").rename(folder.parent / "outside.bin")
    (folder / "a.bin").symlink_to(folder.parent / "outside.bin")


def directory_for_file(folder: Path) -> None:
    (folder / "b.bin").unlink()
    (folder / "b.bin").mkdir()


MALFORMED: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json", "missing"),
    "not JSON": (with_manifest(b"{"), "manifest.json", "not JSON"),
    "empty": (with_manifest(b""), "manifest.json", "not JSON"),
    "not UTF-8": (with_manifest(b'{"\xff": 1}'), "manifest.json", "not JSON"),
    "a list": (with_manifest(b"[]"), "manifest.json", "a JSON object is needed"),
    "too large": (with_manifest(b" " * 2000 + b"{}"), "manifest.json", "larger than any manifest"),
    "no member `files`": (with_manifest(b"{}"), "manifest.json", "must name the files"),
    "`files` is empty": (with_files({}), "manifest.json", "must name the files"),
    "`files` is a list": (with_files(["a.bin"]), "manifest.json", "must name the files"),
    "a required file is not named": (with_files({"b.bin": ENTRY}), "manifest.json", r"must name a\.bin"),
    "sha256 missing": (with_files({"a.bin": {"bytes": 7}}), "manifest.json", "needs a sha256"),
    "sha256 not a string": (with_files({"a.bin": {"sha256": 7, "bytes": 7}}), "manifest.json", "needs a sha256"),
    "sha256 too short": (with_files({"a.bin": {"sha256": "95", "bytes": 7}}), "manifest.json", "needs a sha256"),
    "entry is null": (with_files({"a.bin": None}), "manifest.json", "needs a sha256"),
    "size missing": (with_files({"a.bin": {"sha256": ENTRY["sha256"]}}), "manifest.json", "needs its size"),
    "size not a number": (with_files({"a.bin": ENTRY | {"bytes": "7"}}), "manifest.json", "needs its size"),
    "size is a boolean": (with_files({"a.bin": ENTRY | {"bytes": True}}), "manifest.json", "needs its size"),
    "size is negative": (with_files({"a.bin": ENTRY | {"bytes": -1}}), "manifest.json", "needs its size"),
    "path to a parent": (with_files({"../a.bin": ENTRY}), "manifest.json", "leaves the folder"),
    "the parent": (with_files({"..": ENTRY}), "manifest.json", "leaves the folder"),
    "an absolute path": (with_files({"/etc/hostname": ENTRY}), "manifest.json", "leaves the folder"),
    "a subfolder": (with_files({"sub/a.bin": ENTRY}), "manifest.json", "leaves the folder"),
    "an empty name": (with_files({"": ENTRY}), "manifest.json", "leaves the folder"),
    "a NUL in the name": (with_files({"a\0": ENTRY}), "manifest.json", "leaves the folder"),
    "a file is missing": (lambda folder: (folder / "a.bin").unlink(), "a.bin", "missing"),
    "a file is shorter": (lambda folder: (folder / "a.bin").write_bytes(b"weight"), "a.bin", "altered"),
    "a file is altered": (lambda folder: (folder / "a.bin").write_bytes(b"Weights"), "a.bin", "altered"),
    "the size differs": (with_files({"a.bin": ENTRY | {"bytes": 8}}), "a.bin", "altered"),
    "a file is too large": (
        lambda folder: (folder / "a.bin").write_bytes(b"w" * 101),
        "a.bin",
        "larger than 100 bytes",
    ),
    "a folder in place of a file": (directory_for_file, "b.bin", "not a file"),
    "an extra file": (lambda folder: (folder / "c.bin").write_bytes(b""), "c.bin", "not named by the manifest"),
    "a link that leaves the folder": (link_to_outside, "a.bin", "symbolic link"),
}


def open_and_verify(folder: Path) -> None:
    manifest = open_manifest(folder, required=["a.bin"], max_bytes=1000)
    manifest.verify(max_bytes=100)
    manifest.verify_no_other_files()


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_folders_are_rejected_with_path_and_reason(folder: Path, case: str) -> None:
    change, name, reason = MALFORMED[case]
    open_and_verify(folder)
    change(folder)
    with pytest.raises(ManifestError, match=reason) as caught:
        open_and_verify(folder)
    assert caught.value.path == str(folder / name)
    assert isinstance(caught.value, ManifestMissingError) == (case == "no manifest")


def test_written_manifests_keep_their_form(folder: Path) -> None:
    assert (folder / "manifest.json").read_bytes() == (
        b'{\n  "format": 1,\n  "files": {\n'
        b'    "a.bin": {\n      "sha256": "' + str(ENTRY["sha256"]).encode() + b'",\n      "bytes": 7\n    },\n'
        b'    "b.bin": {\n      "sha256": "' + sha256_of(folder / "b.bin").encode() + b'",\n      "bytes": 0\n    }\n'
        b"  }\n}\n"
    )


@pytest.mark.parametrize(
    ("described", "size"),
    [(ENTRY, 7), ({"sha256": ENTRY["sha256"], "size": 7}, 7), (ENTRY["sha256"], None)],
    ids=["models", "indexes", "cohorts"],
)
def test_every_form_on_disk_is_read(folder: Path, described: object, size: int | None) -> None:
    with_files({"a.bin": described})(folder)
    manifest = open_manifest(folder)
    manifest.verify()
    assert manifest.files == {"a.bin": FileEntry(str(ENTRY["sha256"]), size)}
    (folder / "a.bin").write_bytes(b"Weights")
    with pytest.raises(ManifestError, match="altered"):
        manifest.verify()


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    """Kubernetes mounts the files of a volume as links to a folder beside them."""
    (folder / "..data").mkdir()
    (folder / "a.bin").rename(folder / "..data" / "a.bin")
    (folder / "a.bin").symlink_to(Path("..data") / "a.bin")
    manifest = open_manifest(folder)
    manifest.verify()
    assert damaged_files(folder, manifest.files) == []


def test_every_damaged_file_is_listed_by_name(folder: Path) -> None:
    files = open_manifest(folder).files
    assert damaged_files(folder, files) == []
    (folder / "b.bin").unlink()
    (folder / "a.bin").write_bytes(b"")
    assert [Path(problem.path).name for problem in damaged_files(folder, files)] == ["a.bin", "b.bin"]


def test_the_callers_check_comes_before_the_file_entries(folder: Path) -> None:
    def check(fields: object) -> None:
        raise ValueError("another format")

    with_files({})(folder)
    with pytest.raises(ManifestError, match=r"manifest\.json: another format"):
        open_manifest(folder, check=check)
