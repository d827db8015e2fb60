"""What the parts of a service share: settings, models, store, limits, clients."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from flask import request

from cds_hooks import HookError
from cds_hooks.errors import TokenRefusedError
from cds_service.auth.clients import ClientsFile
from cds_service.auth.tokens import Caller, TokenVerifier
from cds_service.config.settings import Settings
from cds_service.hooks.hook_handler import HookHandler
from cds_service.monitoring.gauges import Gauges
from cds_service.monitoring.metrics import Metrics
from cds_service.net.outbound import Networks
from cds_service.runtime.admission import Admission, RateLimit
from cds_service.smart.parts import SmartParts
from cds_service.store.store import Store
from risk_model import Pipeline

LOG = logging.getLogger("riskcards")
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """ServiceParts.open(settings, pipeline, store)

    What the routes share. `demo`, tests and commands reach it as `app.extensions["riskcards"]`.
    """

    settings: Settings
    answering: HookHandler
    store: Store
    metrics: Metrics
    gauges: Gauges
    admission: Admission
    rate: RateLimit
    verifier: TokenVerifier | None
    clients: ClientsFile | None
    smart: SmartParts | None

    @classmethod
    def open(cls, settings: Settings, pipeline: Pipeline, store: Store) -> ServiceParts:
        """Raises ClientsError, SmartSetupError."""
        metrics = Metrics()
        clients = ClientsFile(Path(settings.cds_clients)) if settings.cds_clients else None
        verifier = None
        if clients is not None:
            verifier = TokenVerifier(lambda: clients.clients, store, Networks.of(settings.private_networks))
        admission = Admission(
            settings.max_active, settings.max_waiting, settings.deadline_seconds, settings.max_held_bytes
        )
        return cls(
            settings,
            HookHandler(settings, pipeline, store, metrics, admission),
            store,
            metrics,
            Gauges(store, pipeline.models),
            admission,
            RateLimit(settings.requests_per_minute),
            verifier,
            clients,
            SmartParts.open(settings, store),
        )

    @property
    def pipeline(self) -> Pipeline:
        return self.answering.pipeline

    def in_time(self, step: Callable[_P, _T], /, *args: _P.args, **more: _P.kwargs) -> _T:
        """A step that asks the store, within the time an answer may take. Raises StoreError past it."""
        return self.answering.steps.run(time.monotonic() + self.settings.deadline_seconds, step, *args, **more)

    def caller(self) -> Caller | None:
        """Who asks, by their token; None where no clients are configured. Raises HookError 401, StoreError.

        The address is our own configured one: a Host header can say anything.
        """
        if self.verifier is None:
            return None
        url = f"{self.settings.public_url.rstrip('/')}{request.path}"
        try:
            caller = self.in_time(self.verifier.verify, request.headers.get("Authorization"), url)
        except TokenRefusedError as error:
            self.metrics.token_refused()
            LOG.info("token refused reason=%s", error.reason)
            raise HookError(401, "login", "authentication is required") from None
        self.rate.take(caller.client.name)
        return caller
