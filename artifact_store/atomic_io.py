"""Output that is there whole or not at all: written beside its place, and put there when the last byte is written.

with whole_file(out) as stream: ...      # bytes; what was at `out` before stays until the block ends well
with whole_folder(out) as coming: ...    # files written into `coming` come to lie in `out`
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def whole_file(out: Path) -> Iterator[IO[bytes]]:
    """A device or a pipe is written to as it is. Raises OSError, which names `out` where the system named nothing."""
    if out.exists() and not out.is_file():
        with out.open("wb") as stream:
            yield stream
        return
    out = out.resolve()
    part = out.with_name(f"{out.name}.part")
    with _named(out):
        try:
            with part.open("wb") as stream:
                yield stream
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(out: Path, last: str = "manifest.json") -> Iterator[Path]:
    """The folder is made at once, so that a place nobody may write to is told before the work is done.

    `last` is what tells readers that the folder is whole: it is put in place after all others. Files of `out` that are
    not written anew stay. Raises OSError as `whole_file` does.
    """
    made = not out.exists()
    coming = out / ".coming"
    with _named(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            shutil.rmtree(coming, ignore_errors=True)  # of a run that was killed
            coming.mkdir()
            yield coming
            for path in sorted(coming.iterdir(), key=lambda path: path.name == last):
                path.replace(out / path.name)
        finally:
            shutil.rmtree(coming, ignore_errors=True)
            if made:
                with suppress(OSError):  # there is something in it, then
                    out.rmdir()


def check_writable(out: Path) -> None:
    """Raises OSError where no folder can be made or written at `out`; asked before hours of work, not after them."""
    with whole_folder(out):
        pass


@contextmanager
def _named(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # A full disk names what was copied, or nothing; what is written aside is nobody's business.
        if error.errno in _FULL or not error.filename or str(error.filename).startswith(str(out)):
            error.filename = str(out)
        raise
