"""Errors of the library. `status` is a field; only the Flask blueprint turns an error into an HTTP answer.

    HookError                       an answer other than 200: status, code, diagnostics, retry_after
    ├── MalformedRequestError       400  the body is not a hook request or feedback
    ├── TokenRefusedError           401  the token of the client is missing, forged, expired or replayed
    ├── ForbiddenError              403  the client is known and may not do this
    ├── UnknownServiceError         404  no such service
    ├── UnknownCardError            404  feedback on a card that this service did not send
    ├── MethodNotSupportedError     405  not the method of this address
    ├── UnusablePrefetchError       412  the prefetch does not hold the data an answer needs
    │   └── MissingPrefetchError    412  required data did not come and could not be fetched
    ├── TooLargeError               413  more bytes or entries than the service takes
    ├── UnsupportedMediaTypeError   415  not JSON, or compressed
    ├── HandlerFailedError          500  the handler raised or returned something that is not cards
    └── UnavailableError            503  overloaded, or a part of the service is down: Retry-After
    ValueError
    ├── CardError                   a card, suggestion, action or link the specification does not allow
    ├── FeedbackError               feedback the specification does not allow
    ├── ServiceDefinitionError      a service or prefetch template that cannot be registered
    └── KeyRefusedError             a JWK set that cannot be used
    FetchError                      a FHIR server or a key server could not be read: reason
    ClientError                     a call by `cds_hooks.client` failed
    ├── CallFailedError             no HTTP answer came
    ├── CallRefusedError            an answer other than 200: status, outcome
    └── InvalidAnswerError          a 200 whose body breaks the specification

A service raises HookError with any status; the subclasses name those that the library raises by itself. `diagnostics`
and `reason` never hold patient data.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MAX_LOGGED = 300


class HookError(Exception):
    """HookError(429, "throttled", "too many requests", retry_after=5)

    An answer other than 200. `code` is of FHIR's issue-type value set; `diagnostics` is shown to the client.
    """

    def __init__(self, status: int, code: str, diagnostics: str, *, retry_after: int | None = None) -> None:
        super().__init__(diagnostics)
        self.status = status
        self.code = code
        self.diagnostics = diagnostics
        self.retry_after = retry_after

    @property
    def log_text(self) -> str:
        """`name=value ...` on one line: what the log has besides status and code."""
        return f"why={quoted(self.diagnostics)}"

    def to_outcome(self) -> dict[str, Any]:
        """The FHIR OperationOutcome of this error."""
        return operation_outcome(self.code, self.diagnostics)


class MalformedRequestError(HookError):
    """400. `code` is "structure", "required" or "value"; `diagnostics` begins with the path of the fault."""

    def __init__(self, code: str, diagnostics: str) -> None:
        super().__init__(400, code, diagnostics)


class TokenRefusedError(HookError):
    """TokenRefusedError("audience", received_aud="https://cds.example.org", expected_aud="https://cds.example.org/x")

    401. `reason` and `details` are for the log of the service and never in the answer (RFC 6750, section 3.1). Details
    are what an operator compares: addresses, issuers, key ids and times, never the token. They may come from a forged
    token.
    """

    def __init__(self, reason: str, **details: object) -> None:
        super().__init__(401, "login", "authentication is required")
        self.args = (reason,)
        self.reason = reason
        self.details = details

    @property
    def log_text(self) -> str:
        """`reason=... name=value ...` on one line.

        >>> TokenRefusedError("key-url", iss="https://ehr.example.org", received_jku=["x"]).log_text
        'reason=key-url iss="https://ehr.example.org" received_jku=["x"]'
        """
        return " ".join((f"reason={self.reason}", *(f"{name}={quoted(value)}" for name, value in self.details.items())))


class ForbiddenError(HookError):
    """403."""

    def __init__(self, diagnostics: str) -> None:
        super().__init__(403, "forbidden", diagnostics)


class UnknownServiceError(HookError):
    """404."""

    def __init__(self, known: tuple[str, ...]) -> None:
        super().__init__(404, "not-found", f"no such service; there are {', '.join(known)}")


class UnknownCardError(HookError):
    """404: an `on_feedback` handler raises it for a card or suggestion that it does not know."""

    def __init__(self, diagnostics: str) -> None:
        super().__init__(404, "not-found", diagnostics)


class MethodNotSupportedError(HookError):
    """405. `allowed` are the methods of this address."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(405, "not-supported", "Method Not Allowed")
        self.allowed = allowed


class UnusablePrefetchError(HookError):
    """412: a handler raises it where the data are of another patient, or lack the encounter of the context."""

    def __init__(self, code: str, diagnostics: str) -> None:
        super().__init__(412, code, diagnostics)


class MissingPrefetchError(UnusablePrefetchError):
    """412. `missing` are the templates that are required and unanswered, by key."""

    def __init__(self, missing: Mapping[str, str], why: str = "") -> None:
        templates = ", ".join(f"{key} = {template}" for key, template in missing.items())
        super().__init__("not-found", f"prefetch is missing and could not be fetched: {templates}{why}")
        self.missing = dict(missing)


class TooLargeError(HookError):
    """413."""

    def __init__(self, diagnostics: str) -> None:
        super().__init__(413, "too-costly", diagnostics)


class UnsupportedMediaTypeError(HookError):
    """415."""

    def __init__(self, diagnostics: str) -> None:
        super().__init__(415, "not-supported", diagnostics)


class HandlerFailedError(HookError):
    """HandlerFailedError(error)   500. `incident` is in the answer and in the log.

    The log has the type of the cause and its line of code, never the message, which may quote patient data.
    """

    def __init__(self, cause: Exception) -> None:
        self.incident = uuid.uuid4().hex[:12]
        super().__init__(500, "exception", f"internal error; incident {self.incident}")
        trace = cause.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "unknown"
        self._log_text = f"incident={self.incident} error={cause.__class__.__name__} at={place}"

    @property
    def log_text(self) -> str:
        return self._log_text


class UnavailableError(HookError):
    """503 with Retry-After in seconds."""

    def __init__(self, diagnostics: str, retry_after: int = 5) -> None:
        super().__init__(503, "transient", diagnostics, retry_after=retry_after)


class CardError(ValueError):
    """A part of a card that the specification does not allow; the message names the field."""


class FeedbackError(ValueError):
    """Feedback that the specification does not allow; the message names the field."""


class ServiceDefinitionError(ValueError):
    """A service that cannot be registered; the message names the service, the field and the reason."""


class KeyRefusedError(ValueError):
    """A JWK set that cannot be used; the message names the key and the reason."""


class FetchError(Exception):
    """A server could not be read. `reason` is a stable code without patient data; `status` is the server's HTTP status
    if that was the reason; `detail` is for the log."""

    def __init__(self, reason: str, *, status: int | None = None, detail: str = "") -> None:
        said = str(status) if status is not None else detail
        super().__init__(f"{reason}: {said}" if said else reason)
        self.reason = reason
        self.status = status


class ClientError(Exception):
    """Base class of the errors of a CDS client."""


class CallFailedError(ClientError):
    """No HTTP answer came: the service is unreachable or too slow."""


class CallRefusedError(ClientError):
    """An answer other than 200. `outcome` is the OperationOutcome of the body, None where there was none."""

    def __init__(self, status: int, outcome: Mapping[str, Any] | None) -> None:
        super().__init__(f"the service answered {status}")
        self.status = status
        self.outcome = outcome


class InvalidAnswerError(ClientError):
    """A 200 whose body breaks the specification; the message names the field."""


def quoted(value: object) -> str:
    """A foreign value for one line of a log: as ASCII JSON, cut after 300 characters.

    >>> quoted(["a", 1.5]), len(quoted("x" * 999))
    ('["a", 1.5]', 303)
    """
    text = json.dumps(value, default=str)
    return text if len(text) <= _MAX_LOGGED else f"{text[:_MAX_LOGGED]}..."


def operation_outcome(code: str, diagnostics: str) -> dict[str, Any]:
    """A FHIR OperationOutcome with one error."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": diagnostics}],
    }
