"""`riskcards serve`: the production server, on gunicorn."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from cds_service.application.operators import ADMIN_ENV, admin_address
from cds_service.commands.shared.opened import check_port, config_option, log_to_stderr, opened_settings, opened_store
from cds_service.config.settings import Settings

LOG = logging.getLogger("riskcards")
_CONNECTIONS = 4096
"""Of one worker."""
_LINE = "%(asctime)s level=%(levelname)s worker=%(process)d %(message)s"


@click.command(name="serve")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@click.option(
    "--admin", metavar="HOST:PORT", help="A further address, for /metrics and /health only, open to your own network."
)
@config_option
@click.option("--insecure", is_flag=True, help="Accept requests without authentication. For development only.")
def command(host: str, port: int, workers: int, admin: str | None, config: Path | None, insecure: bool) -> None:
    """Serve CDS Hooks, feedback, model cards, health and metrics.

    Settings come from RISKCARDS_* and --config. RISKCARDS_CDS_CLIENTS names the file of the EHRs whose tokens are
    accepted (`riskcards client add` writes it); without it the service starts only with --insecure, open to anyone who
    can reach the port.

    SIGHUP reloads settings, models and index without downtime; if the new workers fail, the old ones keep running.
    SIGTERM finishes running requests, then stops.

    \b
    riskcards client add general --file clients.json --issuer https://ehr.example.org --jwks-url https://...
    RISKCARDS_CDS_CLIENTS=clients.json RISKCARDS_PUBLIC_URL=https://cds.example.org riskcards serve --workers 2
    riskcards serve --insecure
    """
    with _shared_metrics():
        settings = _checked(config, insecure)
        log_to_stderr(settings.log_level, _LINE)
        for warning in settings.warnings():
            LOG.warning("%s", warning)
        addresses = _addresses(host, port, admin)
        if admin is not None:
            os.environ[ADMIN_ENV] = admin
        _check_opened(settings, config)
        _run(settings, partial(_checked, config, insecure), addresses, workers)


def _addresses(host: str, port: int, admin: str | None) -> list[str]:
    """Returns the addresses to listen on, HOST:PORT or [IPv6]:PORT. Raises UsageError, and ClickException for a port
    that cannot be bound."""
    pairs = [(host.strip("[]"), port)]
    if admin is not None:
        pairs.append(admin_address(admin))
        if pairs[1][1] == port:
            raise click.UsageError(
                f"--admin: {admin}; expected another port than --port {port}: requests of operators are known by it"
            )
    for each in pairs:
        check_port(*each)
    return [f"[{name}]:{number}" if ":" in name else f"{name}:{number}" for name, number in pairs]


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """A folder for prometheus_client's multiprocess mode, so that any worker reports the metrics of all.

    Must be set before prometheus_client is imported. Replaced workers, forks of this process, leave through here too
    and must not delete the folder.
    """
    folder, owner = tempfile.mkdtemp(prefix="riskcards-metrics-"), os.getpid()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield
    finally:
        if os.getpid() == owner:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]
            shutil.rmtree(folder, ignore_errors=True)


def _checked(config: Path | None, insecure: bool) -> Settings:
    """Returns the settings after validating clients and keys. Raises UsageError before a port is opened."""
    from cds_service.access.clients import ClientsError, ClientsFile
    from cds_service.oauth.errors import SmartError
    from cds_service.smart.parts import check_setup
    from cds_service.store.engine import file_of
    from risk_model.llm import ReaderName, model_fingerprint

    settings = opened_settings(config)
    if settings.database_url and file_of(settings.database_url) is None and "sqlite" in settings.database_url[:6]:
        raise click.UsageError(
            "RISKCARDS_DATABASE_URL: a database in memory, which each worker would have of its own and lose: no mode "
            "would reach them all and no audit be kept; name a file, such as sqlite:////srv/riskcards.db"
        )
    if settings.cds_clients:
        try:
            ClientsFile(Path(settings.cds_clients))
        except ClientsError as error:
            raise click.UsageError(f"RISKCARDS_CDS_CLIENTS: {error}") from None
    elif not insecure:
        raise click.UsageError(
            "no clients are configured, so the service would accept anyone. Add the EHRs that may call with "
            "`riskcards client add` and set RISKCARDS_CDS_CLIENTS; for a trial on a closed network add --insecure."
        )
    try:
        check_setup(settings)
    except SmartError as error:
        raise click.UsageError(f"RISKCARDS_SMART_CLIENTS: {error}") from None
    # Checks only that its files exist: `riskcards read-ahead` runs the model, here or on another machine.
    model_fingerprint(ReaderName.of(settings.note_reader))
    return settings


def _check_opened(settings: Settings, config: Path | None) -> None:
    """Opens database, key and models once, so that an error is reported once and not by every worker."""
    from cds_service.oauth.errors import SmartError
    from cds_service.oauth.vault import open_cipher
    from risk_model import TASKS
    from risk_model.core import open_manifest

    try:
        if settings.smart_clients:
            open_cipher(settings.session_key_path())
    except SmartError as error:
        raise click.UsageError(f"RISKCARDS_SESSION_KEY_FILE: {error}") from None
    with opened_store(config):
        pass
    for task in TASKS if settings.models else ():
        open_manifest(Path(settings.models) / task)


def _run(settings: Settings, again: Callable[[], Settings], addresses: list[str], workers: int) -> None:
    from gunicorn.app.base import BaseApplication

    from cds_service.application.factory import create_app
    from cds_service.application.index_reload import IndexWatch
    from cds_service.application.local_control import LocalControl
    from cds_service.application.memory import allow_connections, bound_arenas, settle
    from cds_service.application.warmup import warm
    from cds_service.application.worker_reload import ReloadingArbiter
    from knowledge_index import KnowledgeIndex
    from knowledge_index.core import verify_index

    bound_arenas()
    allow_connections(_CONNECTIONS)
    # Hash every byte once; the workers then trust large files by inode, size and times.
    verify_index(Path(settings.index) if settings.index else KnowledgeIndex.starter_folder())

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in _options(settings, addresses, workers).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            # In each worker, after the fork: database connections and inference threads do not survive a fork.
            # Settings are read again here so that SIGHUP applies changes.
            app = create_app(again())
            parts = app.extensions["riskcards"]
            IndexWatch(parts.handler.current).start()
            warm(parts.handler.current.pipeline)
            settle()
            LocalControl(parts).start()
            return app

    ReloadingArbiter(Server(), settings.worker_growth_bytes).run()


def _options(settings: Settings, addresses: list[str], workers: int) -> dict[str, Any]:
    """gunicorn's own settings."""
    return {
        "bind": addresses,
        "workers": workers,
        # Threads mostly wait for slow clients or admission; settings bound how many compute or receive bodies at a
        # time, so the rest stay free for /health.
        "worker_class": "cds_service.application.gunicorn_worker.BoundedThreadWorker",
        "threads": max(256, 2 * (settings.max_active + settings.max_waiting)),
        "child_exit": _forget,
        "timeout": 30,
        "graceful_timeout": 20,
        # More than threads: connections that wait for their head or are kept open hold none.
        "worker_connections": _CONNECTIONS,
        # Workers are replaced by memory, one at a time (`worker_reload`): a count of requests is the clients' choice.
        "max_requests": 0,
        "limit_request_field_size": 8_190,
        # The service is controlled by signals only.
        "control_socket_disable": True,
    }


def _forget(_: Any, worker: Any) -> None:
    """Removes the in-progress gauges of a dead worker."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
