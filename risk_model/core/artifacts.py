"""Model directories: every file's sha256 and size are checked against manifest.json before anything is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from risk_model.core.errors import ModelArtifactError

FORMAT = 1
MAX_FILE = 64 * 2**20
_NEEDED = frozenset(
    {
        "model_id", "version", "task", "inputs", "calibration", "reliability", "baseline", "population", "rows",
        "patients", "files",
    }
)  # fmt: skip
# A file must be listed with its hash: otherwise a manifest without files would accept any file.
_SIGNED = frozenset({"model.ubj", "card.json"})


def open_manifest(folder: Path) -> Mapping[str, Any]:
    """Returns the manifest of a model folder after checking it.

    Raises ModelArtifactError if the folder or a file is missing, altered, too large, or of another format.
    """
    path = folder / "manifest.json"
    try:
        manifest = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ModelArtifactError(f"no model here ({error.__class__.__name__})", path=str(path)) from None
    except orjson.JSONDecodeError as error:
        raise ModelArtifactError(f"not JSON: {error.msg}", path=str(path)) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelArtifactError(f"a manifest of format {FORMAT} is needed; train the model again", path=str(path))
    if not manifest.keys() >= _NEEDED:
        missing = ", ".join(sorted(_NEEDED - manifest.keys()))
        raise ModelArtifactError(f"the manifest lacks {missing}", path=str(path))
    signatures = manifest["files"]
    if not isinstance(signatures, dict) or not signatures.keys() >= _SIGNED:
        raise ModelArtifactError(f"its `files` must name {', '.join(sorted(_SIGNED))}", path=str(path))
    for name, signature in signatures.items():
        if "/" in name or not isinstance(signature, dict):
            raise ModelArtifactError("its `files` must be names in this folder with sha256 and bytes", path=str(path))
        _check(folder / name, signature)
    return manifest


def _check(path: Path, signature: Mapping[str, Any]) -> None:
    try:
        if path.stat().st_size > MAX_FILE:
            raise ModelArtifactError("larger than any model of ours", path=str(path))
        data = path.read_bytes()
    except OSError as error:
        raise ModelArtifactError(f"cannot be read ({error.__class__.__name__})", path=str(path)) from None
    if len(data) != signature.get("bytes") or hashlib.sha256(data).hexdigest() != signature.get("sha256"):
        raise ModelArtifactError("altered since it was written: its sha256 is not the manifest's", path=str(path))


def signature(path: Path) -> dict[str, Any]:
    """Returns the manifest's entry for a file."""
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def write_json(path: Path, document: Any, *, indent: bool = True) -> None:
    options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY | (orjson.OPT_INDENT_2 if indent else 0)
    path.write_bytes(orjson.dumps(document, option=options))


def read_signed_json(folder: Path, manifest: Mapping[str, Any], name: str) -> Any:
    """Returns a JSON file that the checked manifest lists, or None. Raises ModelArtifactError."""
    if name not in manifest["files"]:
        return None
    try:
        return orjson.loads((folder / name).read_bytes())
    except orjson.JSONDecodeError as error:
        raise ModelArtifactError(f"not JSON: {error.msg}", path=str(folder / name)) from None


def sign(folder: Path, names: Iterable[str]) -> None:
    """Adds files of a model folder to its manifest, or updates their entries."""
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    manifest["files"] |= {name: signature(folder / name) for name in names}
    write_json(folder / "manifest.json", manifest)
