"""What is known of a request before its body is read, and the two checks a service can plug in: tokens and load."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Verifier(Protocol):
    """Knows clients by their tokens: `cds_hooks.Trust`, or an object of your own."""

    @property
    def base_url(self) -> str: ...
    def verify(self, authorization: str | None, url: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request whose caller is known and whose body has not been read."""

    service: str
    kind: str
    """"hook" or "feedback"."""
    caller: Any
    content_length: int | None
    """Bytes; None where the client does not say."""


Admission = Callable[[Incoming], AbstractContextManager[Any]]
"""Entered before the body is read, left when the answer is ready. Raises HookError, such as 429 or 503, to refuse."""
