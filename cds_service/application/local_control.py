"""What a worker answers on its local socket, and the notice that its service uses the database."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cds_service.access.clients import ClientsUnavailableError
from cds_service.application.control_socket import ControlError, ControlSocket
from cds_service.application.parts import ServiceParts
from cds_service.config.modes import EVERY, TASK, Mode
from cds_service.config.settings import Settings
from cds_service.config.values import extra
from cds_service.services import SERVICES
from cds_service.store.engine import default_key_file, file_of
from cds_service.store.errors import StoreError
from cds_service.store.places import own_run_folder
from cds_service.store.store import Store

LOG = logging.getLogger("riskcards")
SEEN_SECONDS = 60.0
_PATHS = tuple(name for name, field in Settings.model_fields.items() if extra(field, "kind") == "path")


class LocalControl:
    """LocalControl(parts).start()   The service runs on without it: a failure is logged."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._stopped = threading.Event()

    def start(self) -> None:
        try:
            folder = own_run_folder(self._parts.settings.run_folder)
            control = ControlSocket(folder, f"{os.getppid()}-{os.getpid()}", self.answer)
            control.start()
            atexit.register(control.close)
        except (ControlError, OSError) as error:
            LOG.warning("no local socket for `riskcards mode`: %s; see RISKCARDS_RUN_FOLDER", error)
        threading.Thread(target=self._seen, name="seen", daemon=True).start()

    def answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """`about`: the settings in force; `clients`; `modes`; `set-mode`: in the database; `override-mode`: here."""
        asked = question.get("ask")
        if asked == "about":
            return {"settings": absolute(self._parts.settings).model_dump()}
        if asked == "clients":
            return self._clients()
        if asked == "modes":
            found = sorted(self._parts.store.modes().items())
            return {"modes": [{"service": s, "tenant": t, "mode": mode} for (s, t), mode in found]}
        if asked in {"set-mode", "override-mode"}:
            return self._mode(question, store=asked == "set-mode")
        return {"error": "unknown question"}

    def _clients(self) -> Mapping[str, Any]:
        """The names of the clients in force, and why a changed file was not taken over."""
        file = self._parts.clients
        names: list[str] = []
        if file is not None:
            with suppress(ClientsUnavailableError):
                names = sorted(client.name for client in file.clients.values())
        return {"clients": names, "fault": "" if file is None else file.fault or ""}

    def _mode(self, question: Mapping[str, Any], *, store: bool) -> Mapping[str, Any]:
        """In force here before the database has it, so that a database that is down stops no kill switch."""
        names = ("service", "tenant", "mode", "reason", "by")
        service, tenant, mode, reason, by = (str(question.get(name, "")) for name in names)
        tasks = {f"{TASK}{task}" for each in SERVICES.values() for task in each.tasks}
        if mode not in set(Mode) or service not in {EVERY, *SERVICES, *tasks} or not tenant:
            return {"error": "unknown mode or service"}
        board = self._parts.handler.modes
        # Only what shows less: a `live` that stays here alone would outlast an `off` that another machine sets.
        kept_here = mode in {Mode.OFF, Mode.SILENT}
        if not store:
            here_only = bool(question.get("here_only"))
            if kept_here or not here_only:
                board.override(service, tenant, mode if here_only else None)
            return {"applied": True}
        if kept_here:
            board.override(service, tenant, mode)
        try:
            self._parts.in_time(self._parts.store.set_mode, service, tenant, mode, reason, by)
        except StoreError as error:
            LOG.error("mode %s of %s/%s is not in the database: %s", mode, service, tenant, error)
            return {"applied": kept_here, "stored": False}
        board.override(service, tenant, None)
        return {"applied": True, "stored": True}

    def _seen(self) -> None:
        while not self._stopped.wait(SEEN_SECONDS):
            try:
                mark_in_use(self._parts.store, self._parts.settings)
            except StoreError as error:
                LOG.warning("not noted as in use: %s", error)


def mark_in_use(store: Store, settings: Settings) -> None:
    """Notes in the database that this service uses it. Raises StoreError."""
    host = socket.gethostname()
    store.services.mark(f"{settings.public_url} on {host}"[:160], {"pid": os.getpid(), "host": host})


def absolute(settings: Settings) -> Settings:
    """The settings with paths that another working folder, and another user's environment, understand too."""
    url = settings.store_url()
    file, key = file_of(url), settings.database_key_file or default_key_file(url)
    changed = {name: str(Path(value).absolute()) for name in _PATHS if (value := getattr(settings, name))}
    if key is not None:
        changed["database_key_file"] = str(Path(key).absolute())
    return settings.with_changes(**changed, database_url=url if file is None else f"sqlite:///{file.absolute()}")
