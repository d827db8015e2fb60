"""The services of an application and the answering of their requests, without a web framework.

hooks = CdsHooks(trust=Trust(...))

@hooks.service("readmission-30d", hook="encounter-discharge", description="...", prefetch={...})
def readmission(request: HookRequest) -> list[Card]: ...

@hooks.on_feedback
def keep(service: str, feedback: tuple[Feedback, ...], caller: Any) -> None: ...

hooks.answer("readmission-30d", body) -> HookResponse
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cds_hooks.admission import Admission, Verifier
from cds_hooks.cards import Card, HookResponse
from cds_hooks.errors import HandlerFailedError, HookError, ServiceDefinitionError, UnknownServiceError
from cds_hooks.feedback import Feedback, parse_feedback
from cds_hooks.hook_request import HookRequest, parse_request
from cds_hooks.prefetch import Fetch, Prefetch, complete
from cds_hooks.services import ServiceDefinition

if TYPE_CHECKING:
    from flask import Blueprint

_T = TypeVar("_T")
LOG = logging.getLogger("cds_hooks")
MAX_BODY_BYTES = 10 * 2**20

Handler = Callable[[HookRequest], Iterable[Card] | HookResponse]
FeedbackHandler = Callable[[str, tuple[Feedback, ...], Any], None]
"""(service id, entries, caller). Raises UnknownCardError for a card this service did not send."""
RequestFetch = Callable[[HookRequest, str], Any]
"""(request, filled query) -> the resource of the request's FHIR server. It must check which servers may be read.

Raises FetchError.
"""


@dataclass(frozen=True, slots=True)
class _Registered:
    definition: ServiceDefinition
    handler: Handler
    optional_prefetch: frozenset[str]
    raw_prefetch: bool


class CdsHooks:
    """CdsHooks(trust=Trust(...)), or CdsHooks() without authentication for development.

    `fetch` reads missing prefetch values; without it they are 412. `allowed_origins` are those of browser-based clients
    ("*" allows all). `open_discovery` answers discovery without a token. `admission` limits load.
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
    ) -> None:
        self.trust = trust
        self.fetch = fetch
        self.allowed_origins = frozenset(allowed_origins)
        self.open_discovery = open_discovery
        self.max_body_bytes = max_body_bytes
        self.admission = admission
        self._services: dict[str, _Registered] = {}
        self._on_feedback: FeedbackHandler | None = None

    @property
    def services(self) -> Mapping[str, ServiceDefinition]:
        """By id, in order of registration."""
        return {identifier: found.definition for identifier, found in self._services.items()}

    def service(
        self,
        id: str,
        *,
        hook: str,
        description: str,
        title: str | None = None,
        prefetch: Mapping[str, str] | None = None,
        optional_prefetch: Iterable[str] = (),
        raw_prefetch: bool = False,
        usage_requirements: str | None = None,
        required_context: tuple[str, ...] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Registers the decorated handler, which stays as it is.

        Every prefetch key has a value, except that those of `optional_prefetch` may be None. With `raw_prefetch` the
        handler gets the prefetch as it came, unparsed and not completed. Raises ServiceDefinitionError.
        """
        definition = ServiceDefinition(
            id=id,
            hook=hook,
            description=description,
            title=title,
            prefetch=dict(prefetch or {}),
            usage_requirements=usage_requirements,
            required_context=required_context,
        )
        return self.register(definition, optional_prefetch=optional_prefetch, raw_prefetch=raw_prefetch)

    def register(
        self, definition: ServiceDefinition, *, optional_prefetch: Iterable[str] = (), raw_prefetch: bool = False
    ) -> Callable[[Handler], Handler]:
        """As `service`, with a ServiceDefinition."""
        optional = frozenset(optional_prefetch)
        if definition.id in self._services:
            raise ServiceDefinitionError(f"{definition.id}: registered twice")
        definition.check_templates()
        if not optional <= definition.prefetch.keys():
            raise ServiceDefinitionError(f"{definition.id}.optional_prefetch: not all are keys of prefetch")

        def add(handler: Handler) -> Handler:
            self._services[definition.id] = _Registered(definition, handler, optional, raw_prefetch)
            return handler

        return add

    def on_feedback(self, handler: FeedbackHandler) -> FeedbackHandler:
        """Registers the decorated handler for the feedback of every service. Without one feedback is discarded."""
        self._on_feedback = handler
        return handler

    def blueprint(self, url_prefix: str = "", name: str = "cds_hooks") -> Blueprint:
        """Discovery, services, feedback and `/openapi.json` as a Flask blueprint."""
        from cds_hooks.blueprint import hooks_blueprint

        return hooks_blueprint(self, url_prefix, name)

    def discovery(self) -> dict[str, Any]:
        """The answer of `GET /cds-services`."""
        return {"services": [definition.to_json() for definition in self.services.values()]}

    def caller(self, authorization: str | None, path: str) -> Any:
        """The client that calls `path`, as verified by the trust object; None without one. Raises TokenRefusedError."""
        return None if self.trust is None else self.trust.verify(authorization, f"{self.trust.base_url}{path}")

    def definition(self, service_id: str) -> ServiceDefinition:
        """Raises UnknownServiceError."""
        return self._registered(service_id).definition

    def answer(self, service_id: str, body: bytes, caller: Any = None) -> HookResponse:
        """The cards for one request. Raises HookError: a failure is never an empty list of cards."""
        found = self._registered(service_id)
        definition = found.definition
        request = parse_request(body, definition.hook, definition.context_fields, lazy=found.raw_prefetch)
        request = replace(request, caller=caller)
        if not found.raw_prefetch and definition.prefetch:
            request = replace(request, prefetch=Prefetch(self._completed(found, request)))
        answer = _run(service_id, lambda: _response(found.handler(request)))
        LOG.info("hook service=%s cards=%d", service_id, len(answer.cards))
        return answer

    def receive_feedback(self, service_id: str, body: bytes, caller: Any = None) -> tuple[Feedback, ...]:
        """The entries of one POST, after the handler has accepted them. Raises HookError."""
        self._registered(service_id)
        entries, handler = parse_feedback(body), self._on_feedback
        if handler is not None:
            _run(service_id, lambda: handler(service_id, entries, caller))
        LOG.info("feedback service=%s entries=%d", service_id, len(entries))
        return entries

    def _registered(self, service_id: str) -> _Registered:
        found = self._services.get(service_id)
        if found is None:
            raise UnknownServiceError(tuple(self._services))
        return found

    def _completed(self, found: _Registered, request: HookRequest) -> dict[str, Any]:
        """The request with its prefetch completed; values without a template are kept."""
        templates = found.definition.prefetch
        read: Fetch | None = None
        if self.fetch is not None and request.fhir_server:
            fetch = self.fetch
            read = lambda query: fetch(request, query)  # noqa: E731
        required = [key for key in templates if key not in found.optional_prefetch]
        whole = _run(
            found.definition.id, lambda: complete(templates, request.prefetch, request.context, read, required)
        )
        return {**request.prefetch, **whole}


def _response(returned: Any) -> HookResponse:
    if isinstance(returned, HookResponse):
        return returned
    if isinstance(returned, str | bytes | Mapping | Card) or not isinstance(returned, Iterable):
        raise TypeError("a handler returns a list of cards or a HookResponse")
    return HookResponse(tuple(returned))


def _run(service_id: str, step: Callable[[], _T]) -> _T:
    """The result of a step of the application. Its HookError is raised; any other exception is HandlerFailedError."""
    try:
        return step()
    except HookError:
        raise
    except Exception as error:  # noqa: BLE001 - any failure of an application becomes a 500
        incident = uuid.uuid4().hex[:12]
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "unknown"
        # The type and the line of code, never the message, which may quote patient data.
        LOG.error("service=%s incident=%s error=%s at=%s", service_id, incident, error.__class__.__name__, place)
        raise HandlerFailedError(incident) from None
