"""Builds the wheel twice from the tracked files, in two folders, and compares: the same source gives the same bytes.

python .ci/wheel_twice.py     prints the sha256; exit 1 when the two differ
"""

# a script over our own git and interpreter
# ruff: noqa: T201, S603, S607
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def build(folder: Path, epoch: str) -> Path:
    """The wheel of a fresh copy of what is tracked, in `folder`."""
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "out"), str(source)]
    subprocess.run(command, env=os.environ | {"SOURCE_DATE_EPOCH": epoch}, check=True, stdout=subprocess.DEVNULL)
    return next((folder / "out").glob("*.whl"))


def main() -> int:
    """Two builds, far apart in place."""
    asked = ["git", "log", "-1", "--format=%ct"]
    epoch = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        wheels = [build(Path(folder), epoch) for folder in (first, second)]
        digests = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]
        print(f"{wheels[0].name} sha256 {digests[0]}" + ("" if len(set(digests)) == 1 else f" and {digests[1]}"))
    return 0 if len(set(digests)) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
