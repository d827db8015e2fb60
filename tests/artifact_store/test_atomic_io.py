"""Atomic file writes."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artifact_store.atomic_io import atomic_file, atomic_folder, check_writable, create_private_file


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def fail_writing_a_file(out: Path, trouble: BaseException) -> None:
    with atomic_file(out) as stream:
        stream.write(b"half")
        raise trouble


def fail_writing_a_folder(out: Path, trouble: BaseException) -> None:
    with atomic_folder(out) as coming:
        (coming / "model.ubj").write_text("half")
        raise trouble


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), ValueError()])
def test_a_failed_write_leaves_the_old_files(tmp_path: Path, trouble: BaseException) -> None:
    (tmp_path / "model").mkdir()
    for name in ("manifest.json", "model.ubj"):
        (tmp_path / "model" / name).write_text("old")
    (tmp_path / "out.json").write_text("old")
    with pytest.raises(type(trouble)):
        fail_writing_a_file(tmp_path / "out.json", trouble)
    for folder in ("model", "new"):
        with pytest.raises(type(trouble)):
            fail_writing_a_folder(tmp_path / folder, trouble)
    assert left(tmp_path) == ["model/manifest.json", "model/model.ubj", "out.json"]
    assert not (tmp_path / "new").exists()
    assert {path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {"old"}


def test_a_successful_write_replaces_the_old_files(tmp_path: Path) -> None:
    out = tmp_path / "model"
    (out / ".coming").mkdir(parents=True)
    (out / ".coming" / "stale").write_text("of a run that was killed")
    with atomic_folder(out) as coming:
        for name in ("manifest.json", "a"):
            (coming / name).write_text("new")
        assert left(out) == [".coming/a", ".coming/manifest.json"]
    assert left(out) == ["a", "manifest.json"]
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "target.json")
    with atomic_file(link) as stream:
        stream.write(b"{}")
    assert link.is_symlink()
    assert (tmp_path / "target.json").read_bytes() == b"{}"


def test_devices_are_written_to_directly() -> None:
    with atomic_file(Path("/dev/null")) as stream:
        stream.write(b"gone")
    assert Path("/dev/null").is_char_device()


def test_errors_name_the_requested_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file") as found:
        check_writable(tmp_path / "file" / "model")
    assert found.value.filename == str(tmp_path / "file" / "model")
    with pytest.raises(OSError, match="out") as found:
        fail_writing_a_file(tmp_path / "out", OSError(errno.ENOSPC, "No space left on device", "/some/source"))
    assert found.value.filename == str(tmp_path / "out")


def test_a_private_file_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "session.key"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: create_private_file(path, str(n).encode()), range(8)))
    first = path.read_bytes()
    assert first in {str(n).encode() for n in range(8)}
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    create_private_file(path, b"later")
    assert path.read_bytes() == first
    assert left(tmp_path) == ["keys/session.key"]


def test_a_durable_file_is_synchronised_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr("artifact_store.atomic_io.os.fsync", lambda _: seen.append((tmp_path / "out").exists()))
    with atomic_file(tmp_path / "out", durable=True) as stream:
        stream.write(b"{}")
    assert seen == [False]
    assert (tmp_path / "out").read_bytes() == b"{}"
