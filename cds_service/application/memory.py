"""Memory and file limits of a serving process: few malloc arenas, garbage collection that skips models, connections."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys

_M_ARENA_MAX = -8  # malloc.h
_M_TRIM_THRESHOLD = -1


# A hook request makes about 60,000 objects, nearly all freed by reference count. With the default of 700 the collector
# would run a hundred times per request.
_COLLECT_AFTER = 20_000


def settle() -> None:
    """Excludes all present objects from garbage collection and returns free memory; call it when all is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def allow_connections(most: int) -> None:
    """Lets this process and its workers open so many connections, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * most
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


def bound_arenas(arenas: int = 2) -> None:
    """Limits malloc's arenas for this process; does nothing without glibc.

    glibc gives each thread its own arena, whose free memory it keeps; two arenas are as fast.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_ARENA_MAX, arenas)
        library.mallopt(_M_TRIM_THRESHOLD, 4 * 2**20)
    except (OSError, AttributeError):
        return
