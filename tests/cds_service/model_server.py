"""A real HTTP server for chat completions, with faults set by a test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ModelServer:
    """`behaviour` is read for each request; `asked` has the requests."""

    said: str
    behaviour: str = "well"
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""
    hold_from: int | None = None
    """The request, counted from one, from which on no answer comes; `holding` is set when one is held."""
    holding: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends: what is held or slow waits for it."""
    answered: int = 0


@contextmanager
def model_server(said: str) -> Iterator[ModelServer]:
    state = ModelServer(said)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(body)
            state.tokens.append(self.headers.get("Authorization"))
            assert self.path == "/v1/chat/completions"
            if state.hold_from is not None and len(state.asked) >= state.hold_from:
                state.holding.set()
                state.ended.wait()
                return
            state.answered += 1
            status, answer = _answer(state, body)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{state.url}/elsewhere")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None: ...  # a client that gave up

    server = Quiet(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        state.ended.set()
        server.shutdown()
        server.server_close()


def _answer(state: ModelServer, body: dict[str, Any]) -> tuple[int, bytes]:
    behaviour = state.behaviour
    if behaviour == "slow":
        state.ended.wait()
    if behaviour == "old" and "response_format" in body:
        return 400, b'{"error": "unknown field response_format"}'
    if behaviour.isdigit():
        return int(behaviour), b"{}"
    if behaviour == "garbage":
        return 200, b"\x00\xff not json"
    if behaviour == "huge":
        return 200, b" " * (2 << 20)
    if behaviour == "null":
        return 200, b'{"choices": [{"message": {"content": null}}]}'
    message: dict[str, Any] = {"role": "assistant", "content": state.said}
    if behaviour == "refuses":
        message = {"role": "assistant", "content": None, "refusal": "I cannot read medical notes."}
    if behaviour == "rambles":
        message["content"] = "Sure! Here is what I found: heart failure."
    return 200, json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
