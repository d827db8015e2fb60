"""`riskcards serve`: the production server, on gunicorn."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click


@click.command(name="serve")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Processes that answer.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON settings; see docs/settings.md.",
)
@click.option("--insecure", is_flag=True, help="Answer any client. For demonstration and development only.")
def command(host: str, port: int, workers: int, config: Path | None, insecure: bool) -> None:
    """Serve CDS Hooks, feedback, model cards, health and metrics.

    Settings come from RISKCARDS_* and --config. Verification of client tokens is not built yet, so this refuses to
    start unless --insecure says that everybody who reaches the port may ask.

    \b
    riskcards serve --insecure --workers 2
    """
    from cds_service.settings import Settings, SettingsError

    try:
        settings = Settings.from_environment(os.environ, config)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    if not insecure:
        raise click.UsageError(
            "no client can be verified yet (JWT verification is not built), so the service would be open to everybody. "
            "Behind a network that only your EHR reaches, or for a trial: add --insecure."
        )
    logging.basicConfig(level=settings.log_level, format="%(asctime)s level=%(levelname)s %(message)s")
    _run(settings, host, port, workers)


def _run(settings: Any, host: str, port: int, workers: int) -> None:
    from gunicorn.app.base import BaseApplication

    from cds_service.app import create_app
    from cds_service.commands.memory import bound_arenas

    bound_arenas()

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            options = {
                "bind": f"{host}:{port}",
                "workers": workers,
                # Threads let a worker answer /health while a request is read from a slow client.
                "worker_class": "gthread",
                "threads": 4,
                "timeout": 30,
                "graceful_timeout": 20,
                "max_requests": 20_000,
                "max_requests_jitter": 2_000,
                "limit_request_field_size": 8_190,
                # No second way in: the service is controlled by signals alone.
                "control_socket_disable": True,
            }
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            # In each worker, after the fork: database connections and inference threads do not survive one.
            return create_app(settings)

    Server().run()
