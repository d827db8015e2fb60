"""Names of findings in languages other than English: `names.de.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml


@cache
def names_in(language: str) -> Mapping[str, tuple[str, ...]]:
    """Returns descriptor id -> names in a language (ISO 639-1). Raises FileNotFoundError for one without a file."""
    raw = yaml.safe_load(files("knowledge_index.vocabulary").joinpath(f"names.{language}.yaml").read_bytes())
    return {ui: tuple(names) for ui, names in raw.items()}
