"""Long work in parts that survives a kill: what is finished is kept in a work folder, and not done again.

with work_folder(chosen=None, beside=out, say=report) as work:       # OUT.work, removed once the work is done
    for result in Parts(work, settings).results(job, parts, workers): ...
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import orjson

from artifact_store.atomic_io import atomic_file, named
from artifact_store.workers import Workers, WorkersError

T = TypeVar("T")
_MARK, _PARTS = ".riskcards-work", "parts"
_DIGEST = 32


class WorkFolderError(Exception):
    """A work folder is in use by another run, or holds files that are not ours. The message has the remedy."""


@contextmanager
def work_folder(
    chosen: Path | None, beside: Path | None, say: Callable[[str], None] = lambda _: None
) -> Iterator[Path]:
    """A folder for intermediate results: the one `chosen`, which stays, else `OUT.work` beside a file or folder OUT.

    That of OUT is removed when the block succeeds, and when it fails in a way that a second run would repeat. With
    finished parts in it, it stays after an interruption, a full disk or the death of workers; `say` then gets a line on
    how to resume. Without both it is temporary. It is readable by its owner only: it holds patient data.

    Raises WorkFolderError if another run uses it, or if it holds files of another origin: files in a work folder are
    overwritten.
    """
    if chosen is None and (beside is None or (beside.exists() and not (beside.is_file() or beside.is_dir()))):
        with tempfile.TemporaryDirectory(prefix="riskcards-") as folder:
            yield Path(folder)
        return
    out = (chosen or beside or Path()).absolute()
    work = out if chosen is not None else out.with_name(f"{out.name}.work")
    with named(out):
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep = True  # if this process is killed
    with _locked(work):
        try:
            yield work
            keep = False
        except (KeyboardInterrupt, OSError, WorkersError):
            keep = any(work.glob(f"{_PARTS}/*.part"))
            if keep:
                say(f"interrupted: finished parts are kept in {work} (patient data); the same command resumes")
            raise
        except BaseException:
            keep = False
            raise
        finally:
            if not keep and chosen is None:
                shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Holds the folder's mark; the system releases it even if this process is killed."""
    mark = work / _MARK
    if not mark.exists() and any(work.iterdir()):
        raise WorkFolderError(f"{work}: holds other files; give --work a new or empty folder")
    handle = os.open(mark, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise WorkFolderError(f"{work}: another run is at work here; wait for it, or give another folder") from None
    finally:
        os.close(handle)


class Parts:
    """Parts(folder, settings).results(...) computes the parts that are not in the folder yet.

    A part is one file, named after the settings and the part's own content, with its checksum, and written atomically:
    a file that is there is complete, and other settings, data or versions of riskcards have other files. `folder` None
    keeps nothing.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        """`settings` are all that the results depend on beside the data, as JSON values."""
        self._folder = None if folder is None else folder / _PARTS
        self._settings = orjson.dumps([version("riskcards"), settings], option=orjson.OPT_SORT_KEYS)
        if self._folder is not None:
            self._folder.mkdir(mode=0o700, exist_ok=True)

    def results(
        self, job: Callable[[T], bytes], parts: Sequence[T], keys: Sequence[str], workers: Workers
    ) -> Iterator[bytes]:
        """Yields the result of each part in order. `keys` say what the content of each part is, such as its hash."""
        if self._folder is None:
            yield from workers.map(job, parts)
            return
        files = [self._file(key) for key in keys]
        missing = [not _whole(file) for file in files]
        work = [part for part, is_missing in zip(parts, missing, strict=True) if is_missing]
        # One part needs one worker, and none its start.
        computed = (workers if len(work) > 1 or workers.engine != "local" else Workers()).map(job, work)
        for file, is_missing in zip(files, missing, strict=True):
            if not is_missing:
                yield file.read_bytes()[_DIGEST:]
                continue
            result = next(computed)
            with atomic_file(file, durable=True) as stream:
                stream.write(hashlib.sha256(result).digest())
                stream.write(result)
            yield result

    def clear(self) -> None:
        """Removes what is kept, once the output is written."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, key: str) -> Path:
        assert self._folder is not None
        digest = hashlib.sha256(self._settings + b"\0" + key.encode()).hexdigest()
        return self._folder / f"{digest}.part"


def _whole(file: Path) -> bool:
    """Whether a part is there and its checksum right."""
    try:
        with file.open("rb") as stream:
            expected = stream.read(_DIGEST)
            return hashlib.file_digest(stream, "sha256").digest() == expected
    except FileNotFoundError:
        return False
