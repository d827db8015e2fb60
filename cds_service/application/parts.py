"""The shared objects of the service: settings, models, store, limits, clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypedDict, TypeVar, Unpack

from cds_service.access.admission import Admission, RateLimit
from cds_service.access.clients import ClientsFile
from cds_service.access.deadlines import DeadlineRunner
from cds_service.access.tokens import TokenVerifier
from cds_service.config.settings import Settings
from cds_service.hooks.hook_handler import HookHandler
from cds_service.hooks.request_trace import RequestTrace
from cds_service.monitoring.gauges import Gauges
from cds_service.monitoring.metrics import Metrics
from cds_service.net.outbound import Networks
from cds_service.smart.parts import SmartParts
from cds_service.store.store import Store
from risk_model import Pipeline

_P = ParamSpec("_P")
_T = TypeVar("_T")


class HandlerOptions(TypedDict, total=False):
    """Options of HookHandler that only a demo or a test sets."""

    on_trace: Callable[[RequestTrace], None]
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class _TimedReplay:
    """The used token ids in the store, within the time of an answer and in threads of their own."""

    store: Store
    seconds: float
    steps: DeadlineRunner = field(default_factory=DeadlineRunner)

    def first_use(self, issuer: str, jti: str, expires: datetime) -> bool:
        return self.steps.run(time.monotonic() + self.seconds, self.store.first_use, issuer, jti, expires)


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """ServiceParts.open(settings, pipeline, store)

    The objects that the routes share, also found in `app.extensions["riskcards"]`.
    """

    settings: Settings
    handler: HookHandler
    store: Store
    metrics: Metrics
    gauges: Gauges
    admission: Admission
    verifier: TokenVerifier | None
    clients: ClientsFile | None
    smart: SmartParts | None
    watching: DeadlineRunner = field(default_factory=lambda: DeadlineRunner(4))

    @classmethod
    def open(
        cls,
        settings: Settings,
        pipeline: Pipeline,
        store: Store,
        *,
        launches_app: bool | None = None,
        **options: Unpack[HandlerOptions],
    ) -> ServiceParts:
        """`launches_app` is by default whether SMART clients are configured. Raises ClientsError, SmartSetupError."""
        metrics = Metrics()
        clients = (
            ClientsFile(Path(settings.cds_clients), settings.clients_grace_seconds) if settings.cds_clients else None
        )
        verifier = None
        if clients is not None:
            replay = _TimedReplay(store, settings.deadline_seconds)
            verifier = TokenVerifier(
                lambda: clients.clients,
                replay,
                Networks.of(settings.private_networks),
                base_url=settings.public_url.rstrip("/"),
                rate=RateLimit(settings.requests_per_minute),
            )
        admission = Admission(
            settings.max_active, settings.max_waiting, settings.deadline_seconds, settings.max_held_bytes
        )
        smart = SmartParts.open(settings, store)
        launches = smart is not None if launches_app is None else launches_app
        return cls(
            settings,
            HookHandler.open(settings, pipeline, store, metrics, admission, launches_app=launches, **options),
            store,
            metrics,
            Gauges(store, pipeline.models),
            admission,
            verifier,
            clients,
            smart,
        )

    @property
    def pipeline(self) -> Pipeline:
        return self.handler.pipeline

    def in_time(self, step: Callable[_P, _T], /, *args: _P.args, **more: _P.kwargs) -> _T:
        """The result of a step that uses the store. Raises StoreError after the seconds that an answer may take."""
        return self.handler.steps.run(self._until(), step, *args, **more)

    def watched(self, step: Callable[_P, _T], /, *args: _P.args, **more: _P.kwargs) -> _T:
        """As `in_time`, for readiness and metrics: in threads of their own, so that no hook waits for them."""
        return self.watching.run(self._until(), step, *args, **more)

    def _until(self) -> float:
        return time.monotonic() + self.settings.deadline_seconds
