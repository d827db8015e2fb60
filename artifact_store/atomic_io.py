"""Atomic file writes: output is written to a temporary path and renamed once it is complete.

with atomic_file(out) as stream: ...      # bytes; an earlier file at `out` stays until the block succeeds
with atomic_folder(out) as coming: ...    # files written into `coming` are moved to `out`
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def atomic_file(out: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """A binary stream whose content replaces the file `out` when the block succeeds.

    `durable` waits until the content is on disk, so that not even a power cut leaves an empty file. A device or a pipe
    is written to directly. Raises OSError; its `filename` is `out` where the system gave none.
    """
    if out.exists() and not out.is_file():
        with out.open("wb") as stream:
            yield stream
        return
    out = out.resolve()
    part = out.with_name(f"{out.name}.part")
    with named(out):
        try:
            with part.open("wb") as stream:
                yield stream
                if durable:
                    stream.flush()
                    os.fsync(stream.fileno())
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)


def create_private_file(path: Path, content: bytes) -> None:
    """Creates a file and its folder, readable by their owner only; of concurrent callers the first one wins.

    The file is on disk when it appears, and owned as its folder is, also where root creates it for a service. An
    existing file stays. Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("wb", dir=path.parent) as stream:  # made with mode 0600
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
        owner = path.parent.stat()
        with suppress(PermissionError):
            os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
        with suppress(FileExistsError):
            os.link(stream.name, path)


@contextmanager
def atomic_folder(out: Path, last: str = "manifest.json") -> Iterator[Path]:
    """A temporary folder whose files are moved into `out` when the block succeeds.

    `out` is created first, so that missing permission fails before the work is done. The file named `last` marks the
    folder as complete and is moved after all others. Files of `out` that are not written again stay. Raises OSError as
    `atomic_file` does.
    """
    made = not out.exists()
    coming = out / ".coming"
    with named(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            shutil.rmtree(coming, ignore_errors=True)  # left by a run that was killed
            coming.mkdir()
            yield coming
            for path in sorted(coming.iterdir(), key=lambda path: path.name == last):
                path.replace(out / path.name)
        finally:
            shutil.rmtree(coming, ignore_errors=True)
            if made:
                with suppress(OSError):  # not empty: the files were moved
                    out.rmdir()


def check_writable(out: Path) -> None:
    """Raises OSError where no folder can be created or written at `out`: call it before hours of work."""
    with atomic_folder(out):
        pass


@contextmanager
def named(out: Path) -> Iterator[None]:
    """Gives an OSError raised in the block the name of `out`, the path the caller knows, where it names another."""
    try:
        yield
    except OSError as error:
        # A full disk names the copied file or none, and the temporary path means nothing to the caller.
        if error.errno in _FULL or not error.filename or str(error.filename).startswith(str(out)):
            error.filename = str(out)
        raise
