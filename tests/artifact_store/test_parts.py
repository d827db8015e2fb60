"""Parts and work folders: what is finished is done once, whatever ends the run."""

from __future__ import annotations

import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from artifact_store import Parts, Workers, WorkersError, WorkFolderError, work_folder
from tests.artifact_store.jobs import counted_bytes

ITEMS = list(range(6))
KEYS = [f"content {item}" for item in ITEMS]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """The folder in which the job notes what it is given."""
    (folder := tmp_path / "scene").mkdir()
    (folder / "seen").touch()
    return folder


def seen(scene: Path) -> list[int]:
    found = [int(line) for line in (scene / "seen").read_text().split()]
    (scene / "seen").write_text("")
    return found


def results(work: Path, scene: Path, keys: list[str] = KEYS, **settings: Any) -> bytes:
    found = Parts(work, settings).results(partial(counted_bytes, scene), ITEMS, keys, Workers())
    return b"".join(found)


WHOLE = b"0;1;2;3;4;5;"


def test_a_run_after_a_failure_does_only_what_is_missing(tmp_path: Path, scene: Path) -> None:
    (scene / "failing").write_text("3")
    out = tmp_path / "out"
    said: list[str] = []
    with pytest.raises(OSError, match="No space"), work_folder(None, out, said.append) as work:
        results(work, scene)
    assert seen(scene) == [0, 1, 2, 3]
    assert said == [f"interrupted: finished parts are kept in {out}.work (patient data); the same command resumes"]
    (scene / "failing").unlink()
    with work_folder(None, out) as work:
        assert stat.S_IMODE(work.stat().st_mode) == 0o700
        assert results(work, scene) == WHOLE
    assert seen(scene) == [3, 4, 5]
    assert not work.exists(), "done"


CHANGES: list[tuple[str, dict[str, Any], list[str], list[int]]] = [
    ("nothing", {"task": "a"}, KEYS, []),
    ("a setting", {"task": "b"}, KEYS, ITEMS),
    ("one more setting", {"task": "a", "as_of": None}, KEYS, ITEMS),
    ("the content of one part", {"task": "a"}, ["changed", *KEYS[1:]], [0]),
    ("the order of the parts", {"task": "a"}, KEYS[::-1], []),
]


@pytest.mark.parametrize(("changed", "settings", "keys", "again"), CHANGES, ids=[row[0] for row in CHANGES])
def test_parts_are_known_by_content_and_settings(
    tmp_path: Path, scene: Path, changed: str, settings: dict[str, Any], keys: list[str], again: list[int]
) -> None:
    results(tmp_path, scene, task="a")
    seen(scene)
    results(tmp_path, scene, keys, **settings)
    assert seen(scene) == again, changed


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 40])
def test_a_damaged_part_is_computed_anew(tmp_path: Path, scene: Path, damage: bytes) -> None:
    results(tmp_path, scene)
    seen(scene)
    damaged = sorted((tmp_path / "parts").iterdir())[2]
    damaged.write_bytes(damage)
    (tmp_path / "parts" / "half.part.part").write_bytes(b"left by a power cut")
    assert results(tmp_path, scene) == WHOLE
    assert len(seen(scene)) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), WorkersError("died")])
def test_without_a_finished_part_nothing_stays(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), work_folder(None, tmp_path / "out"):
        raise error
    assert not list(tmp_path.iterdir())


def test_bad_input_leaves_nothing_and_a_chosen_folder_stays(tmp_path: Path, scene: Path) -> None:
    for chosen in (None, tmp_path / "chosen"):
        with pytest.raises(ValueError, match="bad"), work_folder(chosen, tmp_path / "out") as work:
            raise ValueError(f"bad input, after {results(work, scene)!r}")
    assert {path.name for path in tmp_path.iterdir()} == {"scene", "chosen"}


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        work_folder(None, tmp_path / "out") as work,
        pytest.raises(WorkFolderError, match=r"out\.work: another run"),
        work_folder(None, tmp_path / "out"),
    ):
        pass
    with work_folder(None, tmp_path / "out") as work:
        assert work.exists()


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Bulk Data given as --work would have been cut to nothing: buckets have the same ending."""
    (tmp_path / "out.work").mkdir()
    (own := tmp_path / "out.work" / "Patient.ndjson").write_text("{}")
    for chosen in (None, tmp_path / "out.work"):
        with pytest.raises(WorkFolderError, match="holds other files"), work_folder(chosen, tmp_path / "out"):
            pass
    assert own.read_text() == "{}"


def test_without_an_output_file_the_folder_is_temporary() -> None:
    for beside in (None, Path("/dev/null")):
        with work_folder(None, beside) as work:
            assert work.is_dir()
        assert not work.exists()
