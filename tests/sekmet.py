"""sekmet-fhir, a FHIR server of another hand, with charts of ours in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.end_to_end.conftest import free_port
from tests.patience import PATIENT, responds, until


@contextmanager
def sekmet(folder: Path, charts: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    """The base URL of a server in a process of its own, its data in `folder`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/fhir"
    (folder / "settings.yaml").write_text(f"base_url: {url}\n")
    command = [str(Path(sys.executable).with_name("sekmet")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (
        (folder / "log.txt").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=dict(os.environ)) as process,
    ):
        try:
            _wait(f"{url}/metadata", process)
            for resources in charts:
                _load(url, resources)
            yield url
        finally:
            process.terminate()
            process.wait(PATIENT)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        assert process.poll() is None, "sekmet ended"
        return responds(url)

    assert until(answers), "sekmet does not answer"


def _load(url: str, resources: list[dict[str, Any]]) -> None:
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in resources
    ]
    for start in range(0, len(entries), 200):
        batch = {"resourceType": "Bundle", "type": "batch", "entry": entries[start : start + 200]}
        answer = requests.post(url, json=batch, timeout=PATIENT)
        assert answer.ok
        assert all(entry["response"]["status"].startswith("2") for entry in answer.json()["entry"])
