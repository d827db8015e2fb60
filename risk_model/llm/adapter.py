"""A tuned adapter as a folder: LoRA weights as safetensors, and a manifest that is checked before they are opened.

manifest.json
  base      the model it was tuned on: its name and the sha256 over its weights and tokenizer
  data      sha256 over the examples, how many, and the sources they came from: styles, or hashed patients
  outcome_tuning   if tuned on outcomes: the task, the correction in log-odds for balanced examples, hashed patients
  settings, metrics
  files     sha256 and size of each file
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson

import artifact_store
from artifact_store import ManifestError, ManifestMissingError, disable_telemetry, sha256_of, write_json
from risk_model.core.errors import MissingExtraError, ModelArtifactError

FORMAT = 1
KIND = "note-reader-adapter"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_NEEDED = ("base", "data", "settings", "metrics", "files")
WEIGHT_FILES = ("*.json", "*.safetensors", "*.gguf", "*.model", "*.txt")


@contextmanager
def opened_peft() -> Iterator[Any]:
    """The peft package, without its warnings about names that transformers is about to give up: they are not ours.

    Raises MissingExtraError where it is not installed.
    """
    disable_telemetry()
    try:
        import peft
    except ImportError:
        raise MissingExtraError("peft") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield peft


def base_fingerprint(folder: Path, gguf: str | None) -> str:
    """sha256 over the weights and the tokenizer of a base model (see `local.find_weights`)."""
    paths = [folder / gguf] if gguf is not None else [path for kind in WEIGHT_FILES for path in folder.glob(kind)]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode())
        digest.update(bytes.fromhex(sha256_of(path)))
    return digest.hexdigest()


class Hashed(Protocol):
    """An example as its hash sees it."""

    def to_json(self) -> dict[str, Any]: ...


def data_hash(examples: Sequence[Hashed]) -> str:
    """sha256 over the examples in their order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(orjson.dumps(example.to_json()))
    return digest.hexdigest()


def in_order(folder: Path) -> None:
    """Names of layers are a set to peft, written in another order by each process: in alphabetical order here, so that
    the same training gives the same files."""
    config = orjson.loads((folder / CONFIG).read_bytes())
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    write_json(folder / CONFIG, dict(sorted(config.items())))


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the adapter's manifest; `facts` are `base`, `data`, `settings` and `metrics`."""
    return artifact_store.write_manifest(folder, {"format": FORMAT, "kind": KIND, **facts}, (WEIGHTS, CONFIG))


def check_adapter(folder: Path, base: str | None = None) -> Mapping[str, Any]:
    """Returns the manifest of an adapter after its files were checked.

    Raises ModelArtifactError where one is missing or altered, or was tuned on another base than the one with
    fingerprint `base`.
    """
    try:
        manifest = artifact_store.open_manifest(folder, required=(WEIGHTS, CONFIG), check=_check_fields)
        manifest.verify()
    except ManifestMissingError as error:
        reason = f"no adapter of `riskcards train-reader` here: {error.reason}"
        raise ModelArtifactError(reason, path=error.path) from None
    except ManifestError as error:
        raise ModelArtifactError(error.reason, path=error.path) from None
    known = manifest.fields["base"]
    if base is not None and known.get("fingerprint") != base:
        reason = f"it was tuned on {known.get('name')!r}, which has other weights than this model"
        raise ModelArtifactError(reason, path=str(folder))
    return manifest.fields


def _check_fields(fields: Mapping[str, Any]) -> None:
    if (fields.get("format"), fields.get("kind")) != (FORMAT, KIND):
        raise ValueError(f"not a manifest of a {KIND} of format {FORMAT}")
    if missing := [name for name in _NEEDED if not isinstance(fields.get(name), dict)]:
        raise ValueError(f"the manifest lacks {', '.join(missing)}")
