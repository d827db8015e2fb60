"""The parent side of the child process with resource limits in which note formats other than plain text are converted.

A child starts when the first note needs one (about 0.2 seconds), is kept for later notes, and is replaced when it dies,
exceeds a limit or has done JOBS_PER_CHILD jobs. Thread-safe (one job per child at a time) and fork-safe (a forked
worker never uses its parent's children). The parent never waits longer than the job's time limit.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from fhir_mapping.notes.formats.converted import MAX_CHARACTERS, Converted, Heading, UnreadableError
from fhir_mapping.notes.formats.detection import Format
from fhir_mapping.notes.formats.plain import clean

CHILDREN = 2
JOBS_PER_CHILD = 500
START_SECONDS = 10.0
JOB_SECONDS = 2.5
RECORD_SECONDS = 2.5
_MAX_ANSWER = 8 * MAX_CHARACTERS
_ROOT = Path(__file__).resolve().parents[3]
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from fhir_mapping.notes.formats.sandbox_child import main; main()"
_LIMIT_SIGNALS = frozenset({-signal.SIGPROF, -signal.SIGXCPU})


@dataclass(slots=True)
class TimeBudget:
    """Seconds remaining for the conversions of one record. The start of a child does not count."""

    remaining: float = field(default_factory=lambda: RECORD_SECONDS)


class _Child:
    """A running child process and its pipes."""

    def __init__(self) -> None:
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own code, no shell
                [sys.executable, "-I", "-B", "-c", _BOOT, str(_ROOT)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                cwd="/", env={"LANG": "C.UTF-8"}, bufsize=0,
            )  # fmt: skip
        except OSError:
            raise UnreadableError("converter-unavailable") from None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to_child, self.from_child = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.to_child, False)
        os.set_blocking(self.from_child, False)
        self.jobs = 0
        try:
            self.exchange(b"", time.monotonic() + START_SECONDS)
        except UnreadableError:
            self.close()
            raise UnreadableError("converter-unavailable") from None

    def exchange(self, request: bytes, deadline: float) -> bytes:
        """Sends a request and returns the answer. Raises UnreadableError `time-limit` or `converter-crashed`."""
        remaining, answer = memoryview(request), bytearray()
        poll = select.poll()
        poll.register(self.from_child, select.POLLIN)
        if remaining:
            poll.register(self.to_child, select.POLLOUT)
        while True:
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise UnreadableError("time-limit")
            for descriptor, _ in poll.poll(wait * 1000):
                if descriptor == self.from_child:
                    answer += self._receive()
                else:
                    remaining = self._send(remaining)
                    if not remaining:
                        poll.unregister(self.to_child)
            size = 4 + struct.unpack(">I", answer[:4])[0] if len(answer) >= 4 else None
            if size is not None and size > _MAX_ANSWER:
                raise UnreadableError("converter-crashed")
            if size is not None and len(answer) >= size:
                return bytes(answer[4:size])

    def _receive(self) -> bytes:
        with suppress(BlockingIOError):
            piece = os.read(self.from_child, 2**20)
            if not piece:
                raise UnreadableError(self._end_reason())
            return piece
        return b""

    def _send(self, remaining: memoryview) -> memoryview:
        try:
            return remaining[os.write(self.to_child, remaining) :]
        except BlockingIOError:
            return remaining
        except OSError:
            raise UnreadableError(self._end_reason()) from None

    def _end_reason(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            return "time-limit" if self.process.wait(1) in _LIMIT_SIGNALS else "converter-crashed"
        return "converter-crashed"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.abandon()

    def abandon(self) -> None:
        """Closes the pipes only: in a forked process the child still belongs to the parent."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


class _Pool:
    """At most CHILDREN children; if all are busy, a job waits no longer than its own time limit."""

    def __init__(self) -> None:
        self.free = threading.BoundedSemaphore(CHILDREN)
        self.idle: list[_Child] = []
        self.all: set[_Child] = set()

    def exchange(self, request: bytes, budget: TimeBudget) -> bytes:
        seconds = min(JOB_SECONDS, budget.remaining)
        if not self.free.acquire(timeout=seconds):
            raise UnreadableError("converter-busy")
        try:
            child = self._child()
            started = time.monotonic()
            try:
                answer = child.exchange(request, started + seconds)
            except BaseException:
                self._discard(child)
                raise
            finally:
                budget.remaining -= time.monotonic() - started
            child.jobs += 1
            self.idle.append(child)
            return answer
        finally:
            self.free.release()

    def _child(self) -> _Child:
        while self.idle:
            child = self.idle.pop()
            if child.jobs < JOBS_PER_CHILD and child.process.poll() is None:
                return child
            self._discard(child)
        child = _Child()
        self.all.add(child)
        return child

    def _discard(self, child: _Child) -> None:
        self.all.discard(child)
        child.close()

    def close(self) -> None:
        for child in list(self.all):
            self._discard(child)
        self.idle.clear()

    def abandon(self) -> None:
        for child in self.all:
            child.process.returncode = 0
            child.abandon()


_pool = _Pool()


def _after_fork() -> None:
    global _pool
    _pool.abandon()
    _pool = _Pool()


def warm() -> None:
    """Starts a child before the first note needs one. A service calls this in each worker.

    Raises UnreadableError `converter-unavailable` if none can be started.
    """
    convert(Format.HTML, b"")


def close() -> None:
    """Ends all children. The next job starts a new one."""
    _pool.close()


atexit.register(close)
os.register_at_fork(after_in_child=_after_fork)


def convert(form: Format, raw: bytes, charset: str | None = None, budget: TimeBudget | None = None) -> Converted:
    """Returns `raw`, in format `form`, converted by a child within JOB_SECONDS and the record's `budget`.

    Raises UnreadableError: the reasons of the format's converter, and `time-limit`, `memory-limit`,
    `converter-crashed`, `converter-busy`, `converter-unavailable`, `record-time-spent`.
    """
    budget = budget or TimeBudget()
    if budget.remaining <= 0:
        raise UnreadableError("record-time-spent")
    head = orjson.dumps({"format": form.value, "charset": charset})
    request = b"".join((struct.pack(">I", len(head)), head, struct.pack(">I", len(raw)), raw))
    answer = _pool.exchange(request, budget)
    try:
        found = orjson.loads(answer)
        if isinstance(found, dict) and "reason" in found:
            raise UnreadableError(str(found["reason"])[:40])
        return _checked(found)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError("converter-crashed") from None


def _checked(found: Any) -> Converted:
    """Returns the child's answer after validation: it has read untrusted bytes."""
    text = found["text"]
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        raise ValueError("not a text within the length limit")
    cleaned = clean(text)
    headings = tuple(
        Heading(clean(title).replace("\n", " "), _shifted(text, start, cleaned), int(level), code and str(code))
        for title, start, level, code in found["headings"]
    )
    return Converted(cleaned, headings, found["warning"] and str(found["warning"])[:40])


def _shifted(text: str, start: int, cleaned: str) -> int:
    """Returns the offset of a heading after cleaning has removed characters before it."""
    if not 0 <= start <= len(text):
        raise ValueError("the heading is outside the text")
    return start if len(cleaned) == len(text) else len(clean(text[:start]))
