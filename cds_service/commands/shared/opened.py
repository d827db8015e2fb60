"""Opens settings and store for commands, with actionable error messages."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cds_service.config.settings import Settings
from cds_service.config.sources import SettingsError
from cds_service.store.errors import StoreError
from cds_service.store.store import Store


def opened_settings(config: Path | None = None) -> Settings:
    """Returns the settings of RISKCARDS_* and a file. Raises UsageError for an invalid setting."""
    try:
        return Settings.from_environment(os.environ, config)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def opened_store(config: Path | None = None, *, keyless: bool = False) -> Iterator[Store]:
    """Yields the configured store and closes it. Raises ClickException naming the database if it cannot be opened."""
    with store_of(opened_settings(config), keyless=keyless) as store:
        yield store


@contextmanager
def store_of(settings: Settings, *, keyless: bool = False) -> Iterator[Store]:
    """Yields the store of these settings and closes it. Raises ClickException."""
    try:
        store = settings.open_store(keyless=keyless)
        try:
            yield store
        finally:
            store.close()
    except StoreError as error:
        raise click.ClickException(f"{error}; see RISKCARDS_DATABASE_URL in docs/settings.md") from None


def log_to_stderr(level: str, line: str = "%(asctime)s level=%(levelname)s %(message)s") -> None:
    """Logs to standard error, without faiss's messages about CPU builds it did not find."""
    logging.basicConfig(level=level, format=line)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)


def check_port(host: str, port: int) -> None:
    """Raises ClickException if the port cannot be bound. Skipped under socket activation (LISTEN_FDS)."""
    if "LISTEN_FDS" in os.environ:
        return
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(f"port {port} is in use; try --port {port % 65535 + 1}") from None
        raise click.ClickException(f"{host}:{port} cannot be used: {os.strerror(error.errno or 0)}") from None


config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON settings file; see docs/settings.md.",
)
