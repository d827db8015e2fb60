"""Model directories: every file's sha256 and size are checked against manifest.json before anything is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

import artifact_store
from artifact_store import MANIFEST, FileEntry, ManifestError, ManifestMissingError, check_writable, write_json
from risk_model.core.errors import ModelArtifactError, TrainingError

FORMAT = 1
MAX_FILE = 64 * 2**20
_NEEDED = frozenset(
    {
        "model_id", "version", "task", "inputs", "calibration", "reliability", "baseline", "population", "rows",
        "patients", "files",
    }
)  # fmt: skip
# A file must be listed with its hash: otherwise a manifest without files would accept any file.
_REQUIRED_FILES = frozenset({"card.json"})
PREDICTOR_FILES = ("model.ubj", "model.json")
"""One of them is in every model folder: XGBoost's own format, or JSON of a linear model or of trees."""


def open_manifest(folder: Path) -> Mapping[str, Any]:
    """Returns the manifest of a model folder after checking it.

    Raises ModelArtifactError if the folder or a file is missing, altered, too large, or of another format.
    """
    try:
        manifest = artifact_store.open_manifest(folder, required=_REQUIRED_FILES, check=_check_fields)
        manifest.verify(max_bytes=MAX_FILE)
    except ManifestMissingError as error:
        raise ModelArtifactError(f"no model here: {error.reason}", path=error.path) from None
    except ManifestError as error:
        raise ModelArtifactError(error.reason, path=error.path) from None
    return manifest.fields


def _check_fields(fields: Mapping[str, Any]) -> None:
    if fields.get("format") != FORMAT:
        raise ValueError(f"a manifest of format {FORMAT} is needed; train the model again")
    if missing := sorted(_NEEDED - fields.keys()):
        raise ValueError(f"the manifest lacks {', '.join(missing)}")
    files = fields["files"]
    if isinstance(files, dict) and sum(name in files for name in PREDICTOR_FILES) != 1:
        raise ValueError(f"its `files` must name one of {', '.join(PREDICTOR_FILES)}")


def predictor_file(manifest: Mapping[str, Any]) -> str:
    """Returns the name of the predictor's file that a checked manifest lists."""
    return next(name for name in PREDICTOR_FILES if name in manifest["files"])


def read_signed_json(folder: Path, manifest: Mapping[str, Any], name: str) -> Any:
    """Returns a JSON file that the checked manifest lists, or None. Raises ModelArtifactError."""
    if name not in manifest["files"]:
        return None
    try:
        return orjson.loads((folder / name).read_bytes())
    except orjson.JSONDecodeError as error:
        raise ModelArtifactError(f"not JSON: {error.msg}", path=str(folder / name)) from None


def check_new_folder(out: Path) -> None:
    """Call it before hours of work. Raises OSError where no folder can be written, TrainingError where one has files:
    nothing is overwritten."""
    check_writable(out)
    if out.exists() and any(out.iterdir()):
        raise TrainingError(f"{out}: not empty; nothing is overwritten, choose a new folder for --out")


def sign(folder: Path, names: Iterable[str]) -> None:
    """Add files of a model folder to its manifest, or renew their entries."""
    manifest = orjson.loads((folder / MANIFEST).read_bytes())
    manifest["files"] |= {name: FileEntry.of(folder / name).to_json() for name in names}
    write_json(folder / MANIFEST, manifest)
