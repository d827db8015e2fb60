"""Bulk Data Access 2.0: a server's patients as NDJSON files (https://hl7.org/fhir/uv/bulkdata/export.html).

    kick-off -> 202 with a status URL -> 202 ... 202 -> 200 with the list of files -> the files -> DELETE

Incomplete exports are rejected: a missing file would look like patients without laboratory values.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import orjson

from cds_service.net.outbound import OutboundError, OutboundResponse
from cds_service.net.retry_after import retry_after
from cds_service.oauth.errors import LaunchRefusedError
from cds_service.oauth.scopes import READ
from cds_service.smart.backend import BackendAccess

REQUEST_SECONDS = 60.0
FILE_SECONDS = 3600.0
MAX_ANSWER = 16 * 2**20
MAX_FILE = 16 * 2**30
LONGEST_PAUSE = 120.0
_BUSY = frozenset({429, 503})


class ExportError(Exception):
    """The export failed. `reason` names the step, without patient data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def export(
    access: BackendAccess,
    folder: Path,
    *,
    group: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    hours: float = 12.0,
) -> list[Path]:
    """Exports every type we read, of all patients or a Group, one file per server file. Raises ExportError."""
    start = f"Group/{group}/$export" if group else "Patient/$export"
    base = access.registration.client.iss.rstrip("/")
    headers = {"Accept": "application/fhir+json", "Prefer": "respond-async"}
    begun = _ask(access, "GET", f"{base}/{start}?_type={','.join(READ)}", headers)
    if begun.status != 202 or "content-location" not in begun.headers:
        raise ExportError(f"the server does not start an export (status {begun.status})")
    status_url = urljoin(f"{base}/", begun.headers["content-location"])
    try:
        return _download(access, _finished(access, status_url, time.monotonic() + hours * 3600, say), folder, say)
    finally:
        _tidy(access, status_url)


def _finished(access: BackendAccess, url: str, deadline: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Polls until the list of files is ready, and returns it."""
    while time.monotonic() < deadline:
        answer = _ask(access, "GET", url, {"Accept": "application/json"})
        if answer.status == 200:
            return _manifest(answer)
        if answer.status != 202 and answer.status not in _BUSY:
            raise ExportError(f"the server cancelled the export (status {answer.status})")
        pause = _pause(answer)
        say(f"the server is preparing the export; asking again in {pause:.0f} s")
        time.sleep(pause)
    raise ExportError("the export took too long")


def _pause(answer: OutboundResponse) -> float:
    """The seconds of `Retry-After`; ten if the server gives none."""
    asked = retry_after(answer.headers, most=LONGEST_PAUSE)
    return 10.0 if asked is None else asked


def _manifest(answer: OutboundResponse) -> dict[str, Any]:
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        found = None
    files = found.get("output") if isinstance(found, dict) else None
    good = isinstance(files, list) and all(
        isinstance(file, dict) and isinstance(file.get("url"), str) and str(file.get("type")).isalpha()
        for file in files
    )
    if not isinstance(found, dict) or not good:
        raise ExportError("the server's list of files cannot be read")
    if found.get("error"):
        raise ExportError("the server could not export everything; incomplete exports are rejected")
    return found


def _download(access: BackendAccess, manifest: dict[str, Any], folder: Path, say: Callable[[str], None]) -> list[Path]:
    paths = []
    needs_token = manifest.get("requiresAccessToken") is not False
    for number, file in enumerate(manifest["output"], start=1):
        path = folder / f"{file['type']}.{number}.ndjson"
        say(f"file {number} of {len(manifest['output'])}: {file['type']}")
        with path.open("wb") as stream:
            answer = _ask(access, "GET", file["url"], {"Accept": "application/fhir+ndjson"}, needs_token, stream)
        if answer.status != 200:
            raise ExportError(f"file {number} ({file['type']}) could not be downloaded (status {answer.status})")
        paths.append(path)
    return paths


def _tidy(access: BackendAccess, url: str) -> None:
    """Asks the server to delete the files; without support they stay until they expire."""
    try:
        _ask(access, "DELETE", url, {"Accept": "application/json"})
    except (ExportError, LaunchRefusedError):
        return


def _ask(
    access: BackendAccess, method: str, url: str, headers: dict[str, str], with_token: bool = True, into: Any = None
) -> OutboundResponse:
    """Sends a request with the token, only to hosts of this client."""
    if not access.registration.client.trusts(url):
        raise ExportError(
            "the server redirects to a host that is not configured; add it to `hosts` in the SMART clients file"
        )
    headers = headers | ({"Authorization": f"Bearer {access.token()}"} if with_token else {})
    seconds, size = (REQUEST_SECONDS, MAX_ANSWER) if into is None else (FILE_SECONDS, MAX_FILE)
    try:
        return access.registration.outbound.request(
            method, url, headers=headers, deadline=time.monotonic() + seconds, max_bytes=size, into=into
        )
    except OutboundError as error:
        raise ExportError(f"the server could not be reached ({error.reason})") from None
