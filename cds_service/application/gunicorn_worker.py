"""gunicorn's thread worker with a time limit for each request; it never logs request content.

Request heads are read by the main thread without blocking (`request_heads.py`): a thread is given to a request whose
head is whole. Bodies are read from blocking sockets, and a client that sends a byte now and then would keep a thread
for ever; so the socket is shut down at the time limit, which ends the read. A proxy that buffers whole requests is
still the better protection against slow clients.
"""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import orjson
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from cds_hooks import operation_outcome
from cds_service.application.request_heads import RequestHeads

HEADER_SECONDS = 4.0
REQUEST_SECONDS = 20.0
_CHECK_SECONDS = 0.5
_NOT_NOW = frozenset({errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK})
_MALFORMED = (400, "Bad Request")
_REFUSALS = {
    "LimitRequestLine": (414, "URI Too Long"),
    "LimitRequestHeaders": (431, "Request Header Fields Too Large"),
    "ExpectationFailed": (417, "Expectation Failed"),
    "ForbiddenProxyRequest": (403, "Forbidden"),
}


class _Watch:
    """Shuts down sockets that have passed their time limit."""

    def __init__(self) -> None:
        self._due: dict[int, tuple[float, socket.socket]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._run, daemon=True, name="request-watch").start()

    @contextmanager
    def over(self, connection: socket.socket, seconds: float) -> Iterator[None]:
        self.until(connection, seconds)
        try:
            yield
        finally:
            with self._lock:
                self._due.pop(id(connection), None)

    def until(self, connection: socket.socket, seconds: float) -> None:
        with self._lock:
            self._due[id(connection)] = (time.monotonic() + seconds, connection)

    def _run(self) -> None:
        while True:
            time.sleep(_CHECK_SECONDS)
            now = time.monotonic()
            with self._lock:
                late = [connection for due, connection in self._due.values() if due <= now]
            for connection in late:
                try:
                    connection.shutdown(socket.SHUT_RD)
                except OSError:
                    continue


class _Chunks:
    """A body that ends at a malformed chunk like a broken connection: the client's error, 400 and not 500."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int | None = None) -> bytes:
        try:
            return bytes(self._body.read(size))
        except ParseException:
            raise OSError("the body ends in the middle of a chunk") from None

    @property
    def failed(self) -> bool:
        """Whether the body is malformed: the connection cannot be reused, as the next request's start is unknown."""
        return bool(self._body.failed)


class BoundedThreadWorker(ThreadWorker):  # type: ignore[misc]
    """worker_class = "cds_service.application.gunicorn_worker.BoundedThreadWorker" """

    def init_process(self) -> None:
        self._watch = _Watch()
        self._heads = RequestHeads(HEADER_SECONDS)
        super().init_process()

    def accept(self, listener: Any) -> None:
        """Takes a new connection, whose head is then waited for without a thread."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise
            return
        self.nr_conns += 1
        self._await_head(TConn(self.cfg, client, address, listener.getsockname()))

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """A kept connection sends its next request: its head is waited for like the first."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_head(conn)

    def _await_head(self, conn: Any) -> None:
        conn.sock.setblocking(False)
        address = conn.client[0] if isinstance(conn.client, tuple) else ""
        gone = self._heads.add(conn, address)
        if gone is not None:
            self._forget(gone)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_head_readable, conn))

    def _on_head_readable(self, conn: Any, client: Any) -> None:
        head = self._heads.read(conn)
        if head is None:
            return
        self.poller.unregister(client)
        if not head:
            self._shut(conn)
            return
        conn.init()
        conn.parser.unreader.unread(head)
        conn.data_ready = True
        self.enqueue_req(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Called about once a second: also closes connections whose head is late."""
        for conn in self._heads.late():
            self._forget(conn)
        super().murder_keepalived(force)

    def _forget(self, conn: Any) -> None:
        with suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self._shut(conn)

    def _shut(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    def handle(self, conn: Any) -> Any:
        with self._watch.over(conn.sock, HEADER_SECONDS):
            return super().handle(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answers a request that is malformed or refused, without its content in the log or the answer.

        gunicorn's own handler quotes the malformed line in both: a path, a header, the beginning of a body.
        """
        fault = exc.__class__
        status, reason = _REFUSALS.get(fault.__name__, _MALFORMED)
        if fault.__module__.partition(".")[0] != "gunicorn" and fault.__name__ != "SSLError":
            status, reason = 500, "Internal Server Error"
        self.log.warning("request refused status=%d error=%s", status, fault.__name__)
        code = "exception" if status == 500 else "structure"
        body = orjson.dumps(operation_outcome(code, f"{reason}: the request could not be read as HTTP"))
        head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}"
        with suppress(OSError):
            client.sendall(f"{head}\r\n\r\n".encode() + body)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Starts the time limit of the whole request, as its headers have arrived."""
        self._watch.until(conn.sock, REQUEST_SECONDS)
        req.body = _Chunks(req.body)
        return super().handle_request(req, conn)
