"""How a serving process keeps house: few malloc arenas, and a garbage collector that leaves what stays alone."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

_M_ARENA_MAX = -8  # malloc.h
_M_TRIM_THRESHOLD = -1


# A hook request makes about 60,000 objects, nearly all freed by reference count: the default of 700 would have the
# collector look through them, and now and then through models and index too, a hundred times a request.
_COLLECT_AFTER = 20_000


def settle() -> None:
    """Call when everything is loaded: what is there is never looked through again, what was freed is given back."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def bound_arenas(arenas: int = 2) -> None:
    """Limit malloc's arenas for this process; elsewhere than on glibc this does nothing.

    glibc gives each thread an arena of its own and keeps what requests leave there; two arenas serve as well.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_ARENA_MAX, arenas)
        library.mallopt(_M_TRIM_THRESHOLD, 4 * 2**20)
    except (OSError, AttributeError):
        return
