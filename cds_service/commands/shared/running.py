"""The database that oversight commands work on: that of the running service, and never one no service uses."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from sqlalchemy import make_url

from cds_service.application.control_socket import ControlError, ask, sockets
from cds_service.commands.shared.opened import opened_settings, store_of
from cds_service.config.settings import Settings
from cds_service.config.sources import SettingsError
from cds_service.store.engine import database_of, file_of
from cds_service.store.places import run_folders
from cds_service.store.store import Store

LATELY = timedelta(days=7)
"""A database is in use if a service was seen on it within this; running services are seen every minute."""

unused_option = click.option(
    "--unused", is_flag=True, help="Work on the database although no service has used it lately."
)


@dataclass(slots=True)
class RunningService:
    """A service on this machine: its settings, and the sockets of its workers."""

    settings: Settings
    workers: list[Path] = field(default_factory=list)

    def ask_workers(self, question: Mapping[str, Any], most: int | None = None) -> list[dict[str, Any]]:
        """The answers of the workers that answered, of at most so many."""
        answers: list[dict[str, Any]] = []
        for worker in self.workers:
            if most is not None and len(answers) >= most:
                break
            with suppress(ControlError):
                answers.append(ask(worker, question))
        return answers


@dataclass(frozen=True, slots=True)
class ServiceDatabase:
    """The database a command works on, the settings that name it, and the services found on this machine."""

    settings: Settings
    services: tuple[RunningService, ...]

    @property
    def name(self) -> str:
        """The URL without its password."""
        return database_name(self.settings)

    @property
    def users(self) -> list[RunningService]:
        """The running services that use it."""
        return [each for each in self.services if place_of(each.settings) == place_of(self.settings)]

    @property
    def others(self) -> list[RunningService]:
        return [each for each in self.services if each not in self.users]

    @contextmanager
    def opened(self, unused: bool, lately: timedelta = LATELY) -> Iterator[Store]:
        """The store. Raises UsageError for a database that no service has used `lately`, unless `unused`."""
        file = file_of(self.settings.store_url())
        if file is not None and not file.exists() and not unused:
            raise click.UsageError(f"{self.name} does not exist{self._advice()}")
        with store_of(self.settings) as store:
            last = store.services.last()
            if not unused and not self.users and (last is None or datetime.now(UTC) - last.seen > lately):
                seen = (
                    "no service has ever used it" if last is None else f"last used by {last.name} at {last.seen:%F %T}"
                )
                raise click.UsageError(f"{self.name}: {seen}{self._advice()}, or add --unused")
            yield store

    def _advice(self) -> str:
        if self.services:
            running = "; ".join(
                f"{each.settings.public_url} uses {database_name(each.settings)}" for each in self.services
            )
            return f". A running service: {running}. Leave out --config and RISKCARDS_DATABASE_URL to use that one"
        return (
            ". Name the database of the service with --config (the file `riskcards serve` was given) or "
            "RISKCARDS_DATABASE_URL, or run this as the user of the service"
        )


def service_database(config: Path | None) -> ServiceDatabase:
    """The database of --config or RISKCARDS_DATABASE_URL, else of the one running service, else the default.

    Raises UsageError where several services run on several databases.
    """
    settings = opened_settings(config)
    found = tuple(running_services(settings))
    if config is None and "RISKCARDS_DATABASE_URL" not in os.environ and found:
        if len({place_of(each.settings) for each in found}) > 1:
            listed = "; ".join(f"{each.settings.public_url}: {database_name(each.settings)}" for each in found)
            raise click.UsageError(f"several services run here ({listed}): choose one with --config")
        settings = found[0].settings
    return ServiceDatabase(settings, found)


def running_services(settings: Settings) -> list[RunningService]:
    """The services of this user whose workers answer on their sockets."""
    found: dict[str, RunningService] = {}
    for folder in run_folders(settings.run_folder):
        for path in sockets(folder):
            with suppress(ControlError, SettingsError, KeyError, TypeError):
                about = ask(path, {"ask": "about"})
                # Named after the master process and the worker.
                service = found.setdefault(path.stem.partition("-")[0], RunningService(Settings(**about["settings"])))
                service.workers.append(path)
    return list(found.values())


def place_of(settings: Settings) -> str:
    """What two URLs of the same database have in common: other users and passwords open the same one."""
    url = settings.store_url()
    file, parsed = file_of(url), database_of(url)
    if file is not None:
        return str(file.absolute().resolve())
    server = parsed.query.get("host") or f"{(parsed.host or '').lower()}:{parsed.port or 5432}"
    return f"{parsed.get_backend_name()} {server} {parsed.database}"


def database_name(settings: Settings) -> str:
    return make_url(settings.store_url()).render_as_string(hide_password=True)


def operator() -> str:
    """The user of the machine who runs a command, for the audit chain; behind sudo the one who called it."""
    with suppress(KeyError, OSError):
        return os.environ.get("SUDO_USER") or getpass.getuser()
    return f"uid {os.getuid()}"
