"""CdsHooks: the services of a Flask application. Flask is imported when the routes are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cds_hooks.registry import HookServices

if TYPE_CHECKING:
    from flask import Blueprint, Flask


class CdsHooks(HookServices):
    """CdsHooks(trust=Trust(...)).init_app(app), or CdsHooks() without authentication for development."""

    def init_app(self, app: Flask) -> None:
        """Adds the routes of `blueprint`; the application's other routes then answer errors and CORS as these do."""
        from cds_hooks.blueprint import answer_errors, hook_routes

        app.register_blueprint(hook_routes(self))
        answer_errors(app, self)

    def blueprint(self, url_prefix: str = "", name: str = "cds_hooks") -> Blueprint:
        """Discovery, services, feedback and `/openapi.json` as a Flask blueprint."""
        from cds_hooks.blueprint import hooks_blueprint

        return hooks_blueprint(self, url_prefix, name)
