"""The folders that the service makes for itself, open to their owner only."""

from __future__ import annotations

import os
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
