"""A GGUF file's weights as safetensors, made once: transformers unpacks it number by number, which takes half a minute.

    folder = opened_before(weights, cache)          # None: not yet, or not whole
    with alone(cache):                              # another process may have been sooner: look again
        keep(model, tokenizer, weights, cache)

Copies lie in the user's cache folder (`$XDG_CACHE_HOME/riskcards/models`), named by the sha256 of the GGUF file and the
version of transformers, and are opened only where their own hashes are still those that were written down. Losing one
costs half a minute. Nothing of them is ever part of this project.
"""

from __future__ import annotations

import copy
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from artifact_store import ManifestError, disable_telemetry, open_manifest, sha256_of, write_json

MANIFEST = "riskcards.json"


def opened_before(weights: Path, cache: Path) -> Path | None:
    """The folder of the copy of these weights; None where there is none, or one that is not as it was written."""
    folder = _place(weights, cache)
    try:
        manifest = open_manifest(folder, manifest_name=MANIFEST)
        manifest.verify()
        manifest.verify_no_other_files(MANIFEST)
    except ManifestError:
        return None
    return folder if any(name.endswith(".safetensors") for name in manifest.files) else None


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Lets one process unpack at a time; the others wait. On a file system without locks none waits."""
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(cache / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def keep(model: Any, tokenizer: Any, weights: Path, cache: Path) -> None:
    """Writes the copy atomically. Without space or permission no copy is written, and no error is raised."""
    from safetensors.torch import save_model

    folder = _place(weights, cache)
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as made:
            unfinished = Path(made) / "copy"
            config = copy.deepcopy(model.config)
            if hasattr(config, "quantization_config"):
                del config.quantization_config  # what is kept are plain numbers
            config.save_pretrained(unfinished)
            save_model(model, str(unfinished / "model.safetensors"), metadata={"format": "pt"})
            tokenizer.save_pretrained(unfinished)
            files = {path.name: sha256_of(path) for path in sorted(unfinished.iterdir()) if path.is_file()}
            write_json(unfinished / MANIFEST, {"of": weights.name, "files": files})
            if folder.exists() and opened_before(weights, cache) is None:
                folder.rename(Path(made) / "not whole")
            unfinished.rename(folder)  # refused where another process was sooner: a whole copy is never taken away
    except OSError:
        return


def _place(weights: Path, cache: Path) -> Path:
    disable_telemetry()
    import transformers

    return cache / f"{sha256_of(weights)[:32]}-{transformers.__version__}"
