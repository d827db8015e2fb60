"""What several commands open first: the settings and the store, with errors in words a person can act on."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cds_service.config.settings import Settings, SettingsError
from cds_service.store.errors import StoreError
from cds_service.store.store import Store


def opened_settings(config: Path | None = None) -> Settings:
    """From RISKCARDS_* and a file; a fault is wrong use."""
    try:
        return Settings.from_environment(os.environ, config)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def opened_store(config: Path | None = None) -> Iterator[Store]:
    """The store the settings name, closed afterwards; a store that does not answer is told, with its URL's name."""
    settings = opened_settings(config)
    try:
        store = Store(settings.store_url())
        try:
            yield store
        finally:
            store.close()
    except StoreError as error:
        raise click.ClickException(f"{error}; see RISKCARDS_DATABASE_URL in docs/settings.md") from None


def log_to_stderr(level: str, line: str = "%(asctime)s level=%(levelname)s %(message)s") -> None:
    """Of what libraries say, without the builds of itself that faiss looked for and did not find."""
    logging.basicConfig(level=level, format=line)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)


def check_port(host: str, port: int) -> None:
    """Told before any work: a place where nobody may listen. One that the system's service manager holds is its own."""
    if "LISTEN_FDS" in os.environ:
        return
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(f"port {port} is in use; try --port {port % 65535 + 1}") from None
        raise click.ClickException(f"{host}:{port} cannot be listened on: {os.strerror(error.errno or 0)}") from None


config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON settings; see docs/settings.md.",
)
