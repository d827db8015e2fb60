"""glibc gives each thread an arena of its own and keeps what requests leave there; two arenas serve as well."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # malloc.h
_M_TRIM_THRESHOLD = -1


def bound_arenas(arenas: int = 2) -> None:
    """Limit malloc's arenas for this process; elsewhere than on glibc this does nothing."""
    if not sys.platform.startswith("linux"):
        return
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_ARENA_MAX, arenas)
        library.mallopt(_M_TRIM_THRESHOLD, 4 * 2**20)
    except (OSError, AttributeError):
        return
