"""Settings: RISKCARDS_* from the environment or a JSON file; frozen; an unknown name is an error, not a silence."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PREFIX = "RISKCARDS_"
# Read by tests and the screenshots, not by the service.
_NOT_OURS = frozenset({"RISKCARDS_DATA", "RISKCARDS_CHROMIUM"})


class SettingsError(ValueError):
    """A setting is unknown or cannot be read; the message names it and says what would be right."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the service may be told. `docs/settings.md` explains each."""

    public_url: str = "http://127.0.0.1:8080"
    database_url: str = ""
    cds_clients: str = ""
    fhir_servers: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ("*",)
    index: str = ""
    models: str = ""
    readmission_threshold: float = 0.15
    mortality_threshold: float = 0.15
    max_body_bytes: int = 10 * 2**20
    fetch_seconds: float = 3.0
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
        return settings

    def store_url(self) -> str:
        """The database URL; by default an SQLite file in the user's data folder."""
        if self.database_url:
            return self.database_url
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        folder = base / "riskcards"
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder / 'riskcards.db'}"


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
        return type(default)(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{PREFIX}{name.upper()}: {value!r} is not a {type(default).__name__}") from None
