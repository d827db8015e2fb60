"""Where settings come from: variables of an environment, and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource


class SettingsError(ValueError):
    """Settings are unknown or invalid; the message names each and says what is expected."""


class Environment(EnvSettingsSource):
    """The variables of a given environment."""

    def __init__(self, settings: type[BaseSettings], env: Mapping[str, str]) -> None:
        self._given = {name.lower(): value for name, value in env.items()}
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given


def read_settings_file(path: Path) -> dict[str, Any]:
    """The JSON object of a file. Raises SettingsError, also for a name that occurs twice: one value would be lost."""
    try:
        document = json.loads(path.read_text("utf-8"), object_pairs_hook=_once_each)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.__class__.__name__})") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise SettingsError(f'{path}: expected one JSON object such as {{"public_url": "https://..."}}')
    try:
        once(str(name).lower() for name in document)  # pydantic-settings reads a name in any case
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None
    return document


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    once(name for name, _ in pairs)
    return dict(pairs)


def once(names: Iterable[str]) -> None:
    """Raises ValueError for a name that occurs twice."""
    listed = list(names)
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise ValueError(f"{twice[0]} occurs twice")
