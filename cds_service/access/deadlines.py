"""Deadlines for blocking steps, such as those of the database.

A statement has its own timeout (`store.engine`), but an answer takes several statements, and a commit to a disk that
hangs cannot be interrupted. So each step runs in a thread of its own and is abandoned at its deadline. An abandoned
step may still complete: then a card may be stored that was never shown, but none is shown that was not stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from typing import ParamSpec, TypeVar

from cds_service.store.errors import StoreError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_AT_ONCE = 16


class DeadlineRunner:
    """DeadlineRunner().run(deadline, store.record_card, record)   `deadline` is of `time.monotonic()`.

    One for each kind of step that may hang: keys that do not come must not keep cards from being stored.

    Returns the step's result or raises its exception; raises StoreError at the deadline. At most sixteen steps run at
    a time, abandoned ones included. A step that has not begun at its deadline never runs.
    """

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="step")

    def run(self, deadline: float, step: Callable[_P, _T], /, *args: _P.args, **more: _P.kwargs) -> _T:
        waiting = self._pool.submit(step, *args, **more)
        try:
            return waiting.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            if waiting.done():
                raise
            waiting.cancel()
            raise StoreError("the database does not answer in time") from None
