"""llama.cpp for one GGUF file, behind a Unix socket in a folder that only this user may enter.

    server = LlamaServer(path, threads=2, context=4096)
    server.post("/tokenize", {"content": "hello"}, deadline=None)     # llama.cpp's own endpoints, as values

Nothing listens on a network port, and nothing is written about what is asked: prompts hold notes. A request that is
given up at its deadline is given up by the server too.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import orjson

from risk_model.core.errors import AnswerError, LanguageModelError, MissingExtraError, ModelArtifactError

SOCKET = "llama.sock"
_LONGEST_SOCKET = 100
"""Signs of a Unix socket's path: 104 on macOS and 108 on Linux, with the zero at the end."""


class LlamaServer:
    """Raises MissingExtraError without xllamacpp, ModelArtifactError where llama.cpp cannot open the file."""

    def __init__(self, weights: Path, *, threads: int | None = None, context: int) -> None:
        llama = llama_package()
        folder = mkdtemp(prefix="riskcards-")  # mode 0700
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.socket = Path(folder) / SOCKET
        if len(str(self.socket)) > _LONGEST_SOCKET:
            raise ModelArtifactError("the temporary folder's name is too long for a socket: set TMPDIR", path=folder)
        given = llama.CommonParams()
        given.model.path = str(weights)
        given.hostnames, given.port = [str(self.socket)], 0
        given.n_ctx, given.n_parallel = context, 1
        given.cpuparams.n_threads = given.cpuparams_batch.n_threads = threads or usable_cores()
        # No page of its own, no view of running prompts, no copies of older prompts in memory (8 GB by default), no
        # older half of a prompt dropped to make it fit.
        given.ui = given.endpoint_slots = given.ctx_shift = False
        given.cache_ram_mib, given.verbosity, given.offline, given.warmup = 0, -1, True, False
        try:
            self._server = llama.Server(given)
        except (RuntimeError, ValueError) as error:
            raise ModelArtifactError(
                f"llama.cpp cannot open it ({error.__class__.__name__})", path=str(weights)
            ) from None

    def post(self, path: str, body: Mapping[str, Any], deadline: float | None) -> dict[str, Any]:
        """Returns the answer's JSON.

        Raises AnswerError for a prompt longer than the context (there is no answer to this one, but to others), else
        LanguageModelError: `too-slow`, `status`, `failed`, `not-json`.
        """
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise LanguageModelError("too-slow")
        connection = _Connection(self.socket, left)
        try:
            connection.request("POST", path, orjson.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            status, said = answer.status, answer.read()
        except TimeoutError:
            raise LanguageModelError("too-slow") from None
        except (OSError, http.client.HTTPException) as error:
            raise LanguageModelError("failed", error.__class__.__name__) from None
        finally:
            connection.close()
        if status != 200:
            if b"exceed_context" in said:
                raise AnswerError("the prompt is longer than the model's context")
            raise LanguageModelError("status", str(status))
        try:
            found: dict[str, Any] = orjson.loads(said)
        except orjson.JSONDecodeError:
            raise LanguageModelError("not-json") from None
        return found


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float | None) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def llama_package() -> Any:
    """Returns the package xllamacpp. Raises MissingExtraError."""
    try:
        import xllamacpp
    except ImportError:
        raise MissingExtraError("xllamacpp", extra="llama") from None
    return xllamacpp
