"""Jobs for workers, in a module that is quick to import."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from artifact_store import PerProcess


class DemandingError(Exception):
    """Cannot be sent to another process: its constructor takes more than its message."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


def square(item: int) -> int:
    return item * item


def die_once(folder: Path, at: frozenset[int], item: int) -> int:
    """Kills its process the first time it gets one of the items `at`."""
    grave = folder / str(item)
    if item in at and not grave.exists():
        grave.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def always_die(_item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def fail(error: str, item: int) -> int:
    class Here(Exception):  # noqa: N818 - a class that no other process knows
        pass

    if item == 5:
        raise {"demanding": DemandingError("nothing", "home"), "local": Here("x"), "plain": KeyError("five")}[error]
    return item


def process_of(value: PerProcess[list[int]], item: int) -> tuple[int, int, str | None]:
    """Returns the process, how many items it had, and its number of threads."""
    value().append(item)
    return os.getpid(), len(value()), os.environ.get("OMP_NUM_THREADS")


def counted_bytes(folder: Path, item: int) -> bytes:
    """Notes each time it gets an item, and fails for those named in `folder / "failing"`."""
    with (folder / "seen").open("ab") as stream:
        stream.write(b"%d\n" % item)
    failing = folder / "failing"
    if failing.exists() and str(item) in failing.read_text().split():
        raise OSError(28, "No space left on device")
    return b"%d;" % item
