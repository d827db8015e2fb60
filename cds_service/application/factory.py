"""The app factory: discovery, three services, feedback, model cards, health, metrics; every error an OperationOutcome.

create_app(Settings.from_environment(os.environ)) -> Flask
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from flask import Flask, request

from cds_service.app_pages.blueprint import app_pages
from cds_service.app_pages.smart_charts import frames_of, smart_charts
from cds_service.app_pages.visible import visible
from cds_service.application.hook_service import hook_service
from cds_service.application.local_control import mark_in_use
from cds_service.application.operators import keep_to_admin_paths
from cds_service.application.parts import HandlerOptions, ServiceParts
from cds_service.application.routes import document_routes, health_routes
from cds_service.background.read_ahead import deferred_asking, deferred_reading
from cds_service.config.settings import Settings
from cds_service.refresh.parts import fresh_estimates, notification_receiver, refresh_jobs
from cds_service.refresh.receiver import notification_routes
from cds_service.smart.routes import smart_routes
from cds_service.store.store import Store
from cds_service.ward_list import ward_list_pages
from risk_model import Pipeline


def create_app(
    settings: Settings,
    pipeline: Pipeline | None = None,
    store: Store | None = None,
    *,
    launches_app: bool | None = None,
    **options: Unpack[HandlerOptions],
) -> Flask:
    """The service. Without a `pipeline` the shipped models and starter index are opened (hashes checked first).

    `launches_app`: whether cards link the SMART app; by default, whether SMART clients are configured.
    Raises ArtifactError, ModelArtifactError, SmartSetupError or StoreError if any part cannot be opened.
    """
    store = store or settings.open_store(settings.store_seconds)
    mark_in_use(store, settings)
    if pipeline is None:
        pipeline = Pipeline.shipped(
            Path(settings.index) if settings.index else None,
            Path(settings.models) if settings.models else None,
            deferred_reading(settings, store),
            deferred_asking(settings, store),
        )
    app = Flask("cds_service", static_folder=None)
    app.jinja_options = {"finalize": visible}
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    cds = ServiceParts.open(settings, pipeline, store, launches_app=launches_app, **options)
    app.extensions["riskcards"] = cds
    hook_service(cds).init_app(app)
    for routes in (document_routes, health_routes):
        app.register_blueprint(routes(cds))
    app.register_blueprint(smart_routes(cds.smart))
    app.register_blueprint(app_pages("app", "/app", smart_charts(cds), cds.handler, frames_of(cds)))
    if cds.smart is not None:
        estimates, jobs = fresh_estimates(settings, store), refresh_jobs(settings, store)
        app.register_blueprint(ward_list_pages(cds, estimates, jobs, frames_of(cds)))
    clients = [] if cds.smart is None else [each.client for each in cds.smart.registrations.values()]
    receiver = notification_receiver(settings, store, clients, cds.in_time)
    app.register_blueprint(notification_routes(receiver, cds.admission, settings.max_body_bytes))
    app.before_request(lambda: keep_to_admin_paths(request))
    return app
