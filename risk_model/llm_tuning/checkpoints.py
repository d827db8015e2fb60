"""What training needs to go on after it was stopped: safetensors and JSON in a folder that appears whole or not at all.

    OUT/state-000050/  state.json  weights.safetensors  best.safetensors  moments.safetensors

A newer state is written beside the older one and takes its name last; then the older one goes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifact_store import ManifestError, open_manifest, write_manifest
from risk_model.core.errors import TrainingError

Tensors = Mapping[str, Any]
_NAME = re.compile(r"state-(\d{6})")
_PARTS = ("weights", "best", "moments")
_FILES = tuple(f"{part}.safetensors" for part in _PARTS)
_STATE = "state.json"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Training after `step` steps. `identity` is what it is training of: base model, data and settings."""

    identity: Mapping[str, Any]
    step: int
    losses: tuple[tuple[int, float], ...]
    """(step, loss on validation styles), the first before anything was learned."""
    weights: Tensors
    best: Tensors
    moments: Tensors

    @property
    def lowest(self) -> float:
        return min(loss for _, loss in self.losses)


def keep(out: Path, state: TrainingState) -> None:
    """Write the state; a kill at any moment leaves this one or the one before, whole."""
    from safetensors.torch import save_file

    older = _states(out)
    target = out / f"state-{state.step:06d}"
    unfinished = out / f"{target.name}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for part in _PARTS:
        save_file(dict(getattr(state, part)), unfinished / f"{part}.safetensors")
    facts = {"identity": state.identity, "step": state.step, "losses": state.losses}
    write_manifest(unfinished, facts, _FILES, manifest_name=_STATE)
    for path in (*unfinished.iterdir(), unfinished):
        _to_disk(path)
    unfinished.rename(target)
    _to_disk(out)
    for path in older:
        shutil.rmtree(path)


def newest(out: Path) -> TrainingState | None:
    """The state to go on from, or None. Raises TrainingError where it was altered since it was written."""
    states = _states(out)
    if not states:
        return None
    from safetensors.torch import load_file

    folder = states[-1]
    try:
        manifest = open_manifest(folder, manifest_name=_STATE, required=_FILES)
        manifest.verify()
        manifest.verify_no_other_files(_STATE)
        facts = manifest.fields
        loaded = {part: load_file(folder / f"{part}.safetensors") for part in _PARTS}
        losses = tuple((int(step), float(loss)) for step, loss in facts["losses"])
        return TrainingState(facts["identity"], int(facts["step"]), losses, **loaded)
    except (ManifestError, OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{folder} is damaged ({error.__class__.__name__}); remove it and begin again") from None


def remove(out: Path) -> None:
    """All states, once they are not needed any more."""
    for path in (*_states(out), *out.glob("state-*.part")):
        shutil.rmtree(path)


def _states(out: Path) -> list[Path]:
    if not out.is_dir():
        return []
    return sorted(path for path in out.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
