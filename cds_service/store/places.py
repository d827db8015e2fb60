"""The folders that the service makes for itself, open to their owner only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def data_folder() -> Path:
    """The user's data folder of the service, which is made if it is missing: `$XDG_DATA_HOME/riskcards`."""
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return private_folder(base / "riskcards")


def private_folder(folder: Path) -> Path:
    """The folder, which is made with mode 0700 if it is missing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def run_folders(configured: str = "") -> tuple[Path, ...]:
    """The folders in which this user's running services may have their sockets, the best first."""
    if configured:
        return (Path(configured),)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = Path(tempfile.gettempdir()) / f"riskcards-{os.geteuid()}"
    return (Path("/run/riskcards"), *([Path(runtime) / "riskcards"] if runtime else []), own)


def own_run_folder(configured: str = "") -> Path:
    """The first of them that this process may write to; all but `/run/riskcards` are made. Raises OSError."""
    *others, last = run_folders(configured)
    for folder in others:
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return folder
        if folder.parent.is_dir() and os.access(folder.parent, os.W_OK | os.X_OK) and folder.parent != Path("/run"):
            return private_folder(folder)
    return private_folder(last)
