"""Steps whose pace is somebody else's, such as the database's: whoever waits for one waits until a deadline, no longer.

A statement has its own timeout (`store.engine`), but an answer takes several of them, and a disk that hangs in a commit
can be given up by nobody inside that commit. So each step runs in a thread of its own and is left behind when time is
up. What was left behind may still come true later: a card may then be kept that nobody was shown, never the reverse.
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

    Raises StoreError when the step is not done by then; what the step raises goes through. At most sixteen steps run,
    those left behind included; a step that has not begun when its time is up never runs.
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
