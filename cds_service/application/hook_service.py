"""The services of riskcards as `cds_hooks` serves them: trust, limits, logs and metrics, errors of the store."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cds_hooks import (
    CdsHooks,
    Feedback,
    HookError,
    HookResponse,
    Incoming,
    Observer,
    ReceivedRequest,
    TokenRefusedError,
    UnavailableError,
)
from cds_hooks.middleware import Kind
from cds_service.access.tokens import Caller
from cds_service.application.openapi import described
from cds_service.application.parts import ServiceParts
from cds_service.hooks.feedback import keep_feedback
from cds_service.monitoring.metrics import OTHER, Metrics
from cds_service.services import SERVICES
from cds_service.store.errors import StoreError, TooMuchFeedbackError

LOG = logging.getLogger("riskcards")


def hook_service(cds: ServiceParts) -> CdsHooks:
    """Our services, answered by the handler of `cds`, and feedback on their cards."""
    settings = cds.settings

    def admission(incoming: Incoming) -> AbstractContextManager[Any]:
        """Reserves the memory of the body, before it is read."""
        if incoming.kind == "discovery":
            return nullcontext()
        size, most = incoming.content_length, settings.max_body_bytes
        return cds.admission.hold(most if size is None else min(size, most), _name(incoming.caller) or "")

    hooks = CdsHooks(
        cds.verifier,
        allowed_origins=settings.allowed_origins,
        open_discovery=settings.open_discovery,
        max_body_bytes=settings.max_body_bytes,
        admission=admission,
        observer=_LogAndMetrics(cds.metrics),
        base_url=settings.public_url,
        openapi=described(),
    )

    def answer(received: ReceivedRequest) -> HookResponse:
        return cds.handler.answer(received)

    for service in SERVICES.values():
        hooks.raw_service(service)(answer)

    @hooks.on_feedback
    def keep(service: str, entries: tuple[Feedback, ...], caller: Caller | None) -> None:
        cds.in_time(keep_feedback, service, entries, cds.store, None if caller is None else caller.asker)
        for entry in entries:
            cds.metrics.feedback(service, entry.outcome)
        LOG.info("feedback service=%s client=%s entries=%d", service, _name(caller), len(entries))

    @hooks.on_error(StoreError)
    def store_down(error: StoreError) -> HookError:
        LOG.error("store %s", error)
        return UnavailableError("the audit store is not available")

    @hooks.on_error(TooMuchFeedbackError)
    def much_feedback(_: TooMuchFeedbackError) -> HookError:
        return HookError(429, "throttled", "a card of this request has enough feedback", retry_after=3600)

    return hooks


class _LogAndMetrics(Observer):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def answered(self, service: str, kind: Kind, caller: Caller | None, seconds: float) -> None:
        """A hook's own line in the log is written by the handler, which knows its result."""
        if kind == "hook":
            self._metrics.took(service, seconds)

    def refused(self, error: HookError, service: str, caller: Caller | None) -> None:
        label = service or OTHER
        self._metrics.answered(label, f"status-{error.status}")
        if isinstance(error, TokenRefusedError):
            self._metrics.token_refused()
            LOG.info("token refused %s", error.log_text)
        LOG.log(
            logging.ERROR if error.status == 500 else logging.INFO,
            "refused status=%d code=%s service=%s client=%s %s",
            error.status, error.code, label, _name(caller), error.log_text,
        )  # fmt: skip


def _name(caller: Caller | None) -> str | None:
    return None if caller is None else caller.client.name
