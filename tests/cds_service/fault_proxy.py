"""A proxy between the service and a database or FHIR server that can be down, slow, garbled or reset connections.

with FaultProxy(lambda: socket.create_connection(("127.0.0.1", 5432))) as proxy:
    proxy.become("slow")      # connections are taken and nothing comes back, for as long as it stays so
    proxy.become("through")   # healed
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from select import select

FAULTS = ("down", "slow", "garbage", "reset")
_TICK = 0.02
_GARBAGE = b"\x00\xff\x13garbage\r\n\r\n" * 8


class FaultProxy:
    """Listens on `port` of localhost; `target` opens a connection to the real server."""

    def __init__(self, target: Callable[[], socket.socket]) -> None:
        self._target = target
        self._mode = "through"
        self._closed = False
        self.held = 0
        """Connections that are kept waiting now."""
        self._listener: socket.socket | None = None
        self.port = 0
        self._listen()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._stop_listening()

    def become(self, mode: str) -> None:
        """Sets one of FAULTS, or "through", also for open connections."""
        self._mode = mode
        if mode == "down":
            self._stop_listening()
        elif self._listener is None:
            self._listen()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            # A thread waiting in accept() keeps the port open until it is woken.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server: socket.socket | None = None
        try:
            while not self._closed:
                if self._mode == "down":
                    return
                if self._mode == "slow":
                    self._hold()
                    continue
                if server is None and self._mode == "through":
                    server = self._target()
                if not self._step(client, server):
                    return
        except OSError:
            return
        finally:
            client.close()
            if server is not None:
                server.close()

    def _hold(self) -> None:
        self.held += 1
        while self._mode == "slow" and not self._closed:
            time.sleep(_TICK)
        self.held -= 1

    def _step(self, client: socket.socket, server: socket.socket | None) -> bool:
        """Forwards available data; False at the end of the connection."""
        ready, _, _ = select([end for end in (client, server) if end is not None], [], [], _TICK)
        for end in ready:
            if self._mode not in {"through", "garbage", "reset"}:
                return True
            data = end.recv(65_536)
            if not data:
                return False
            if self._mode == "reset":
                # Lingering for no time at all: what is closed now answers with RST, not FIN.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            if self._mode == "garbage":
                client.sendall(_GARBAGE)
                return False
            other = server if end is client else client
            if other is not None:
                other.sendall(data)
        return True
