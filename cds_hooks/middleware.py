"""What a service can plug in around its handlers: who calls (Verifier), how much at once (Admission), what is counted.

CdsHooks(trust=Trust(...), admission=limits, observer=Counting())
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cds_hooks.errors import HookError

LOG = logging.getLogger("cds_hooks")
Kind = Literal["discovery", "hook", "feedback"]


class Verifier(Protocol):
    """Knows clients by their tokens: `cds_hooks.Trust`, or an object of your own."""

    @property
    def base_url(self) -> str: ...
    def verify(self, authorization: str | None, url: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request whose caller is known and whose body has not been read."""

    service: str
    """"" for discovery."""
    kind: Kind
    caller: Any
    content_length: int | None
    """Bytes; None where the client does not say."""


Admission = Callable[[Incoming], AbstractContextManager[Any]]
"""Entered before the body is read, left when the answer is ready. Raises HookError, such as 429 or 503, to refuse."""


class Observer:
    """Is told of every answer. This one logs it, without request content; subclasses count, or log more."""

    def answered(self, service: str, kind: Kind, caller: Any, seconds: float) -> None:
        """`seconds` include the time in which the client sent its body."""
        LOG.info("%s service=%s ms=%.0f", kind, service, 1000 * seconds)

    def refused(self, error: HookError, service: str, caller: Any) -> None:
        """`service` is "" and `caller` None where they are not known."""
        level = logging.ERROR if error.status == 500 else logging.INFO
        LOG.log(level, "refused status=%d code=%s service=%s %s", error.status, error.code, service, error.log_text)
