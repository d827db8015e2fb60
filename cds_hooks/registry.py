"""The services of an application and the answering of their requests, without a web framework.

hooks = HookServices(trust=Trust(...))

@hooks.service("readmission-30d", hook="encounter-discharge", description="...", prefetch={...})
def readmission(request: HookRequest) -> list[Card]: ...

@hooks.on_feedback
def keep(service: str, feedback: tuple[Feedback, ...], caller: Any) -> None: ...

hooks.answer("readmission-30d", body) -> HookResponse
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from cds_hooks.cards import Card, HookResponse
from cds_hooks.errors import CardError, HandlerFailedError, HookError, ServiceDefinitionError, UnknownServiceError
from cds_hooks.feedback import Feedback, parse_feedback
from cds_hooks.hook_request import HookRequest
from cds_hooks.middleware import Admission, Observer, Verifier
from cds_hooks.openapi import OpenApi
from cds_hooks.prefetch import Fetch, Prefetch, complete
from cds_hooks.services import ReceivedRequest, ServiceDefinition

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Exception)
MAX_BODY_BYTES = 10 * 2**20

Answer = Iterable[Card] | HookResponse
Handler = Callable[[HookRequest], Answer]
RawHandler = Callable[[ReceivedRequest], Answer]
FeedbackHandler = Callable[[str, tuple[Feedback, ...], Any], None]
"""(service id, entries, caller). Raises UnknownCardError for a card this service did not send."""
RequestFetch = Callable[[HookRequest, str], Any]
"""(request, filled query) -> the resource of the request's FHIR server. It must check which servers may be read.

Raises FetchError.
"""


@dataclass(frozen=True, slots=True)
class _Registered:
    definition: ServiceDefinition
    handler: RawHandler


class HookServices:
    """The services of an application, without a web framework; `cds_hooks.CdsHooks` adds Flask.

    Without `trust` nobody is authenticated, which is for development.

    `fetch` reads missing prefetch values; without it they are 412. `allowed_origins` are those of browser-based clients
    ("*" allows all). `open_discovery` answers discovery without a token. `admission` limits load, `observer` counts.
    `action_selection` says whether a caller supports actionSelectionBehavior; a handler may ask it too.
    `base_url` is the public address in the OpenAPI document; by default that of `trust`, or of the request.
    """

    def __init__(
        self,
        trust: Verifier | None = None,
        *,
        fetch: RequestFetch | None = None,
        allowed_origins: Iterable[str] = (),
        open_discovery: bool = False,
        max_body_bytes: int = MAX_BODY_BYTES,
        admission: Admission = lambda _: nullcontext(),
        observer: Observer | None = None,
        action_selection: Callable[[Any], bool] = lambda caller: False,
        base_url: str = "",
        openapi: OpenApi | None = None,
    ) -> None:
        self.trust = trust
        self.fetch = fetch
        self.allowed_origins = frozenset(allowed_origins)
        self.open_discovery = open_discovery
        self.max_body_bytes = max_body_bytes
        self.admission = admission
        self.observer = observer or Observer()
        self.action_selection = action_selection
        self.base_url = base_url or ("" if trust is None else trust.base_url)
        self.openapi = openapi or OpenApi()
        self._services: dict[str, _Registered] = {}
        self._on_feedback: FeedbackHandler | None = None
        self._on_error: dict[type[Exception], Callable[[Any], HookError]] = {}

    @property
    def services(self) -> Mapping[str, ServiceDefinition]:
        """By id, in order of registration."""
        return {identifier: found.definition for identifier, found in self._services.items()}

    def service(
        self,
        id: str,
        *,
        hook: str,
        description: str | None = None,
        title: str | None = None,
        prefetch: Mapping[str, str] | None = None,
        optional_prefetch: Iterable[str] = (),
        usage_requirements: str | None = None,
        required_context: tuple[str, ...] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Registers the decorated handler, which stays as it is.

        The description is by default the first paragraph of the handler's docstring. Every prefetch key has a value,
        except that those of `optional_prefetch` may be None. Raises ServiceDefinitionError.
        """
        optional, templates = frozenset(optional_prefetch), dict(prefetch or {})
        required = [key for key in templates if key not in optional]
        if not optional <= templates.keys():
            raise ServiceDefinitionError(f"{id}.optional_prefetch: not all are keys of prefetch")

        def add(handler: Handler) -> Handler:
            definition = ServiceDefinition(
                id=id,
                hook=hook,
                description=_first_paragraph(handler) if description is None else description,
                title=title,
                prefetch=templates,
                usage_requirements=usage_requirements,
                required_context=required_context,
            )
            self.raw_service(definition)(lambda received: handler(self._completed(received, required)))
            return handler

        return add

    def raw_service(self, definition: ServiceDefinition) -> Callable[[RawHandler], RawHandler]:
        """Registers a handler that parses and completes its requests by itself: the decorated function gets a
        ReceivedRequest.

        For a service that limits how many requests are parsed at once, or that answers the same bytes from a cache.
        """
        if definition.id in self._services:
            raise ServiceDefinitionError(f"{definition.id}: registered twice")
        definition.check_templates()

        def add(handler: RawHandler) -> RawHandler:
            self._services[definition.id] = _Registered(definition, handler)
            return handler

        return add

    def on_feedback(self, handler: FeedbackHandler) -> FeedbackHandler:
        """Registers the decorated handler for the feedback of every service. Without one feedback is discarded."""
        self._on_feedback = handler
        return handler

    def on_error(self, kind: type[_E]) -> Callable[[Callable[[_E], HookError]], Callable[[_E], HookError]]:
        """Registers the decorated function, which returns the HookError that answers an exception of this type.

        Other exceptions, but HookError, are answered by 500.
        """

        def add(handler: Callable[[_E], HookError]) -> Callable[[_E], HookError]:
            self._on_error[kind] = handler
            return handler

        return add

    def hook_error(self, error: Exception) -> HookError:
        """The error that answers an exception of the application."""
        if isinstance(error, HookError):
            return error
        handlers = (self._on_error[kind] for kind in type(error).__mro__ if kind in self._on_error)
        return next(handlers, HandlerFailedError)(error)

    def discovery(self) -> dict[str, Any]:
        """The answer of `GET /cds-services`."""
        return {"services": [definition.to_json() for definition in self.services.values()]}

    def caller(self, authorization: str | None, path: str) -> Any:
        """The client that calls `path`, as verified by the trust object; None without one. Raises TokenRefusedError."""
        return None if self.trust is None else self.trust.verify(authorization, f"{self.trust.base_url}{path}")

    def definition(self, service_id: str) -> ServiceDefinition:
        """Raises UnknownServiceError."""
        return self._registered(service_id).definition

    def answer(self, service_id: str, body: bytes, caller: Any = None, seconds: float = 0.0) -> HookResponse:
        """The cards for one request, which has taken `seconds` so far.

        Raises HookError: a failure is never an empty list of cards.
        """
        found = self._registered(service_id)
        received = ReceivedRequest(found.definition, body, caller, seconds)
        return self._run(lambda: self._answered(found.handler(received), caller))

    def receive_feedback(self, service_id: str, body: bytes, caller: Any = None) -> tuple[Feedback, ...]:
        """The entries of one POST, after the handler has accepted them. Raises HookError."""
        self._registered(service_id)
        entries, handler = parse_feedback(body), self._on_feedback
        if handler is not None:
            self._run(lambda: handler(service_id, entries, caller))
        return entries

    def _registered(self, service_id: str) -> _Registered:
        found = self._services.get(service_id)
        if found is None:
            raise UnknownServiceError(tuple(self._services))
        return found

    def _completed(self, received: ReceivedRequest, required: Iterable[str]) -> HookRequest:
        """The request with its prefetch completed; values without a template are kept."""
        request, fetch = received.parse(), self.fetch
        read: Fetch | None = None
        if fetch is not None and request.fhir_server:
            read = lambda query: fetch(request, query)  # noqa: E731
        whole = complete(
            received.service.prefetch, request.prefetch, request.context, read, required, request.fhir_server or ""
        )
        return replace(request, prefetch=Prefetch({**request.prefetch, **whole}))

    def _answered(self, returned: Any, caller: Any) -> HookResponse:
        response = _response(returned)
        suggestions = (suggestion for card in response.cards for suggestion in card.suggestions)
        if any(each.action_selection_behavior for each in suggestions) and not self.action_selection(caller):
            # Left out it would mean "all": the clinician would order what was offered for choice.
            raise CardError("actionSelectionBehavior: this client is not known to support it")
        return response

    def _run(self, step: Callable[[], _T]) -> _T:
        """The result of a step of the application, whose exceptions become HookErrors."""
        try:
            return step()
        except Exception as error:  # noqa: BLE001 - any failure of an application becomes an answer
            raise self.hook_error(error) from None


def _first_paragraph(handler: Handler) -> str:
    return " ".join((inspect.getdoc(handler) or "").split("\n\n")[0].split())


def _response(returned: Any) -> HookResponse:
    if isinstance(returned, HookResponse):
        return returned
    if isinstance(returned, str | bytes | Mapping | Card) or not isinstance(returned, Iterable):
        raise TypeError("a handler returns a list of cards or a HookResponse")
    return HookResponse(tuple(returned))
