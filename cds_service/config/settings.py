"""Settings: RISKCARDS_* from the environment or a JSON file, frozen. An unknown name is an error."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cds_service.cards.drafts import read_drafts
from cds_service.config.alert_policy import AlertPolicy
from cds_service.config.modes import Mode
from cds_service.net.outbound import Networks
from cds_service.protocol.services import SERVICES
from fhir_mapping import DefinitionError, SiteMap
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, LevelPolicy
from risk_model.llm import RULES, ReaderName, ReaderNameError

PREFIX = "RISKCARDS_"
_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
# Read by tests and the screenshots, not by the service.
_NOT_OURS = frozenset({"RISKCARDS_DATA", "RISKCARDS_CHROMIUM", "RISKCARDS_NCBI_API_KEY", "RISKCARDS_EUTILS_URL"})


class SettingsError(ValueError):
    """A setting is unknown or invalid; the message names it and says what is expected."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the service; `docs/settings.md` explains each."""

    public_url: str = "http://127.0.0.1:8080"
    database_url: str = ""
    cds_clients: str = ""
    smart_clients: str = ""
    session_key_file: str = ""
    fhir_servers: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ("*",)
    index: str = ""
    models: str = ""
    site_map: str = ""
    suggestions: str = ""
    offer_risk_assessment: bool = False
    private_networks: tuple[str, ...] = ()
    open_discovery: bool = False
    readmission_threshold: float = 0.15
    mortality_threshold: float = 0.15
    thresholds: tuple[str, ...] = ()
    level_follows: str = LevelPolicy.CAUTIOUS
    time_zone: str = "UTC"
    quiet_below_threshold: bool = False
    warnings_per_100: float = 0.0
    snooze_hours: float = 0.0
    snooze_delta: float = 0.05
    mode: str = "live"
    pilot_users: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("Practitioner", "PractitionerRole")
    max_body_bytes: int = 10 * 2**20
    max_held_bytes: int = 96 * 2**20
    max_active: int = 1
    max_waiting: int = 32
    requests_per_minute: int = 0
    fetch_seconds: float = 3.0
    deadline_seconds: float = 4.5
    store_seconds: float = 2.0
    remember_seconds: float = 60.0
    note_reader: str = "rules"
    stage1_models: tuple[str, ...] = ()
    note_reader_token_file: str = ""
    note_reader_seconds: float = 60.0
    log_level: str = "INFO"

    @classmethod
    def from_environment(cls, env: Mapping[str, str], config_file: Path | None = None) -> Settings:
        """Defaults, then the file's keys, then the environment. Raises SettingsError."""
        given: dict[str, Any] = {}
        if config_file is not None:
            given.update(_from_file(config_file))
        for name, value in env.items():
            if name.startswith(PREFIX) and name not in _NOT_OURS:
                given[name.removeprefix(PREFIX).lower()] = value
        known = {field.name: field.default for field in fields(cls)}
        values = {name: _convert(name, value, known) for name, value in given.items()}
        settings = cls(**values)
        if urlsplit(settings.public_url).scheme not in {"http", "https"}:
            raise SettingsError(f"{PREFIX}PUBLIC_URL must be an absolute http(s) URL, not {settings.public_url!r}")
        settings._check()
        return settings

    def _check(self) -> None:
        """Checks ranges and combinations. Raises SettingsError."""
        if self.mode not in set(Mode):
            raise SettingsError(f"{PREFIX}MODE: {self.mode!r} is none of {', '.join(Mode)}")
        if self.level_follows not in set(LevelPolicy):
            raise SettingsError(f"{PREFIX}LEVEL_FOLLOWS: {self.level_follows!r} is none of {', '.join(LevelPolicy)}")
        try:
            Networks.of(self.private_networks)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}PRIVATE_NETWORKS: {error}") from None
        try:
            self.zone()
        except (ValueError, OSError, ZoneInfoNotFoundError):
            raise SettingsError(
                f"{PREFIX}TIME_ZONE: {self.time_zone!r} is not a known time zone, such as Europe/Berlin"
            ) from None
        self._check_files()
        try:
            ReaderName.of(self.note_reader)
        except ReaderNameError as error:
            raise SettingsError(f"{PREFIX}NOTE_READER: {error}") from None
        for item in self.stage1_models:
            try:
                named = ReaderName.of(_stage1_model(item)[1])
            except ReaderNameError as error:
                raise SettingsError(f"{PREFIX}STAGE1_MODELS: {error}") from None
            if named.kind == RULES:
                raise SettingsError(f"{PREFIX}STAGE1_MODELS: {item!r}; expected NAME or TASK=NAME of a language model")
        known = {f"{service.id}.{task}" for service in SERVICES.values() for task in service.tasks}
        for item in self.thresholds:
            place, _, value = item.partition("=")
            if place not in known or not _is_share(value):
                raise SettingsError(
                    f"{PREFIX}THRESHOLDS: {item!r}; expected service.task=probability, such as "
                    f"hospital-risk.readmission_30d=0.2, with one of {', '.join(sorted(known))}"
                )

    def _check_files(self) -> None:
        """Raises SettingsError for a configured file that cannot be read: the service would silently do less."""
        files: tuple[tuple[str, str, Callable[[Path], Any]], ...] = (
            ("SITE_MAP", self.site_map, SiteMap.open),
            ("SUGGESTIONS", self.suggestions, read_drafts),
        )
        for name, path, read in files:
            try:
                read(Path(path)) if path else None
            except DefinitionError as error:
                raise SettingsError(f"{PREFIX}{name}: {error}") from None

    def thresholds_of(self, service: str, tasks: tuple[str, ...]) -> dict[str, float]:
        """The probability from which each task of a service warns: the service's own threshold, else the task's."""
        by_task = {READMISSION_30D: self.readmission_threshold, IN_HOSPITAL_MORTALITY: self.mortality_threshold}
        own = dict(item.split("=", 1) for item in self.thresholds)
        return {task: float(own.get(f"{service}.{task}", by_task[task])) for task in tasks}

    def zone(self) -> tzinfo:
        """The hospital's time zone, in which the day ends that a suggestion is due."""
        return UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)

    def stage1_model(self, task: str, trained_with: str) -> str:
        """The first-stage language model of a task's model: the setting for that task, else the setting for all tasks,
        else the name it was trained under."""
        named = dict(_stage1_model(item) for item in self.stage1_models)
        return named.get(task) or named.get("") or trained_with

    def quiet_rules(self) -> AlertPolicy:
        return AlertPolicy(self.snooze_hours, self.snooze_delta, self.warnings_per_100, self.quiet_below_threshold)

    def store_url(self) -> str:
        """The database URL; by default an SQLite file in the user's data folder."""
        return self.database_url or f"sqlite:///{_data_folder() / 'riskcards.db'}"

    def session_key_path(self) -> Path:
        """The key file for SMART sessions; by default beside the default database."""
        return Path(self.session_key_file) if self.session_key_file else _data_folder() / "session.key"


def _data_folder() -> Path:
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    folder = base / "riskcards"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _from_file(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.__class__.__name__})") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise SettingsError(f'{path}: expected one JSON object such as {{"public_url": "https://..."}}')
    return document


def _convert(name: str, value: Any, known: Mapping[str, Any]) -> Any:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {PREFIX}{close[0].upper()}?" if close else ""
        raise SettingsError(f"unknown setting {PREFIX}{name.upper()}{hint}")
    default = known[name]
    try:
        if isinstance(default, tuple):
            items = value.split(",") if isinstance(value, str) else value
            return tuple(str(item).strip() for item in items if str(item).strip())
        if isinstance(default, bool):
            return _TRUTH[str(value).strip().lower()]
        return type(default)(value)
    except (TypeError, ValueError, KeyError):
        raise SettingsError(f"{PREFIX}{name.upper()}: {value!r} is not a {type(default).__name__}") from None


def _stage1_model(item: str) -> tuple[str, str]:
    """(task or "" for any, name)

    >>> _stage1_model("readmission_30d=smollm2"), _stage1_model("https://llm.example/v1#a=b")
    (('readmission_30d', 'smollm2'), ('', 'https://llm.example/v1#a=b'))
    """
    task, given, name = item.partition("=")
    return (task, name) if given and re.fullmatch(r"[A-Za-z0-9_-]+", task) else ("", item)


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False
