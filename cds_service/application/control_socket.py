"""The local socket of a serving process, by which commands on this machine find the service and set its mode.

One JSON object to a line each way. The socket and its folder are open to the service's user (and root) only; the kernel
says who is at the other end.

    with ControlSocket(folder, "4711-4712", answer): ...        # answer(question) -> answer
    ask(path, {"ask": "about"}) -> {...}
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

LOG = logging.getLogger("riskcards")
SECONDS = 5.0
"""A peer is waited for at most this long at each step."""
_LONGEST = 2**20
_SUFFIX = ".sock"


class ControlError(Exception):
    """The socket cannot be made or does not answer; the message says why."""


class ControlSocket:
    """ControlSocket(folder, name, answer).start()   Raises ControlError.

    Questions are answered one at a time, in a thread of their own.
    """

    def __init__(self, folder: Path, name: str, answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        self.path = folder / f"{name}{_SUFFIX}"
        self._answer = answer
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        try:
            with _short(self.path) as path:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                self._listening.bind(path)
                os.chmod(path, 0o600)
            self._listening.listen(8)
        except OSError as error:
            raise ControlError(f"{self.path}: {error.strerror}") from None
        threading.Thread(target=self._run, name="control", daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        self.path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, ValueError):
                connection.settimeout(SECONDS)
                if _peer(connection) in {0, os.geteuid()}:
                    connection.sendall(orjson.dumps(self._answered(_line(connection))) + b"\n")

    def _answered(self, line: bytes) -> Mapping[str, Any]:
        try:
            return self._answer(orjson.loads(line))
        except Exception as error:  # noqa: BLE001 - the socket must go on answering
            LOG.error("control error=%s", error.__class__.__name__)
            return {"error": error.__class__.__name__}


def ask(path: Path, question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of the process at a socket. Raises ControlError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _short(path) as short:
            connection.settimeout(SECONDS)
            connection.connect(short)
            connection.sendall(orjson.dumps(question) + b"\n")
            answer = orjson.loads(_line(connection))
    except (OSError, ValueError) as error:
        raise ControlError(f"{path}: {error.__class__.__name__}") from None
    if not isinstance(answer, dict) or "error" in answer:
        raise ControlError(f"{path}: {answer.get('error') if isinstance(answer, dict) else 'not an object'}")
    return answer


def sockets(folder: Path) -> list[Path]:
    """The sockets in a folder, unless others than this user and root may write to it."""
    try:
        found = folder.lstat()
        if found.st_uid not in {0, os.geteuid()} or found.st_mode & 0o022:
            return []
        return sorted(path for path in folder.iterdir() if path.suffix == _SUFFIX)
    except OSError:
        return []


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path for `bind` and `connect`, which take 107 bytes: through the open folder if it is longer."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _line(connection: socket.socket) -> bytes:
    held = b""
    while b"\n" not in held and len(held) < _LONGEST:
        chunk = connection.recv(65536)
        if not chunk:
            break
        held += chunk
    return held


def _peer(connection: socket.socket) -> int:
    """The user id at the other end."""
    if not hasattr(socket, "SO_PEERCRED"):  # not Linux: the modes of socket and folder alone decide
        return os.geteuid()
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
