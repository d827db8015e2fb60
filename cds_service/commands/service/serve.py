"""`riskcards serve`: the production server, on gunicorn."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from cds_service.commands.shared.opened import check_port, config_option, log_to_stderr, opened_settings, opened_store
from cds_service.config.settings import Settings

_LINE = "%(asctime)s level=%(levelname)s worker=%(process)d %(message)s"


@click.command(name="serve")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Processes that answer.")
@config_option
@click.option("--insecure", is_flag=True, help="Answer any client. For demonstration and development only.")
def command(host: str, port: int, workers: int, config: Path | None, insecure: bool) -> None:
    """Serve CDS Hooks, feedback, model cards, health and metrics.

    Settings come from RISKCARDS_* and --config. RISKCARDS_CDS_CLIENTS names the file of the EHRs whose tokens are
    accepted (`riskcards client add` writes it); without it this refuses to start unless --insecure says that everybody
    who reaches the port may ask.

    SIGHUP replaces all workers by such that read settings, models and index anew, without a pause; when those do not
    start, the old ones go on. SIGTERM lets what runs finish.

    \b
    riskcards client add general --file clients.json --issuer https://ehr.example.org --jwks-url https://...
    RISKCARDS_CDS_CLIENTS=clients.json RISKCARDS_PUBLIC_URL=https://cds.example.org riskcards serve --workers 2
    riskcards serve --insecure
    """
    with _counted_together():
        settings = _checked(config, insecure)
        log_to_stderr(settings.log_level, _LINE)
        check_port(host, port)
        _check_opened(settings, config)
        _run(settings, partial(_checked, config, insecure), host, port, workers)


@contextmanager
def _counted_together() -> Iterator[None]:
    """A folder into whose files the workers count, so that any of them can tell the sum.

    Its name is read when prometheus_client is first imported, so before anything of ours that counts. A worker is a
    fork of this process and leaves through here as well when it is replaced: the folder is not its own to take away.
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
    """Settings whose clients and keys can be read; what cannot be used is told before a port is opened."""
    from cds_service.auth.clients import ClientsError, ClientsFile
    from cds_service.oauth.errors import SmartError
    from cds_service.smart.parts import check_setup
    from risk_model.llm import ReaderName, model_fingerprint

    settings = opened_settings(config)
    if settings.cds_clients:
        try:
            ClientsFile(Path(settings.cds_clients))
        except ClientsError as error:
            raise click.UsageError(f"RISKCARDS_CDS_CLIENTS: {error}") from None
    elif not insecure:
        raise click.UsageError(
            "no clients are configured, so the service would be open to everybody. Name the EHRs that may call with "
            "`riskcards client add` and RISKCARDS_CDS_CLIENTS; for a trial on a closed network add --insecure."
        )
    try:
        check_setup(settings)
    except SmartError as error:
        raise click.UsageError(f"RISKCARDS_SMART_CLIENTS: {error}") from None
    # Only its files are looked at: who reads with it is `riskcards read-ahead`, here or on another machine.
    model_fingerprint(ReaderName.of(settings.note_reader))
    return settings


def _check_opened(settings: Settings, config: Path | None) -> None:
    """Database, key and models, once: each worker would stumble over them by itself, and the last error win."""
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


def _run(settings: Settings, again: Callable[[], Settings], host: str, port: int, workers: int) -> None:
    from gunicorn.app.base import BaseApplication

    from cds_service.application.factory import create_app
    from cds_service.application.index_reload import IndexWatch
    from cds_service.application.warmup import warm
    from cds_service.application.worker_reload import ReloadingArbiter
    from cds_service.runtime.memory import bound_arenas, settle
    from knowledge_index import KnowledgeIndex
    from knowledge_index.core import verify_index

    bound_arenas()
    # Every byte, once: the workers then trust large files by inode, size and times.
    verify_index(Path(settings.index) if settings.index else KnowledgeIndex.starter_folder())

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in _options(settings, f"{host}:{port}", workers).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            # In each worker, after the fork: database connections and inference threads do not survive one. The
            # settings too, so that a worker that follows others follows their file.
            app = create_app(again())
            current = app.extensions["riskcards"].answering.current
            IndexWatch(current).start()
            warm(current.pipeline)
            settle()
            return app

    ReloadingArbiter(Server()).run()


def _options(settings: Settings, address: str, workers: int) -> dict[str, Any]:
    """gunicorn's own settings."""
    return {
        "bind": address,
        "workers": workers,
        # Threads are for waiting: on slow clients, and for a place among those that compute. How many compute
        # or send bodies at a time is bounded by settings; the rest stay free for /health.
        "worker_class": "cds_service.application.gunicorn_worker.BoundedThreadWorker",
        "threads": max(256, 2 * (settings.max_active + settings.max_waiting)),
        "child_exit": _forget,
        "timeout": 30,
        "graceful_timeout": 20,
        "max_requests": 20_000,
        "max_requests_jitter": 2_000,
        "limit_request_field_size": 8_190,
        # No second way in: the service is controlled by signals alone.
        "control_socket_disable": True,
    }


def _forget(_: Any, worker: Any) -> None:
    """What a dead worker was doing is no longer counted as being done."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
