"""`riskcards` as a process of its own, for the benchmarks that call it over HTTP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests


@dataclass(frozen=True, slots=True)
class Started:
    """A process that answers at `base`."""

    pid: int
    port: int

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def started(*arguments: str, ready: str = "/health/ready", seconds: float = 120, **env: str) -> Iterator[Started]:
    """`riskcards ARGUMENTS --port N`, `env` beside our own, from its first answer at `ready` until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", "cds_service.cli", *arguments, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | env) as server:
        found = Started(server.pid, port)
        try:
            wait(found.base + ready, seconds)
            yield found
        finally:
            server.terminate()


@contextmanager
def served(database: Path, workers: int, **env: str) -> Iterator[Started]:
    """`riskcards serve` without authentication, its cards kept in the SQLite file `database`."""
    env["RISKCARDS_DATABASE_URL"] = f"sqlite:///{database}"
    with started("serve", "--insecure", "--workers", str(workers), **env) as server:
        yield server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(url: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if requests.get(url, timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    sys.exit(f"{url} did not answer in {seconds:.0f} s")
