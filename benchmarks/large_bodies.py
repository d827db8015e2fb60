"""A hundred bodies of ten megabytes at the same moment against `riskcards serve`: answers and memory.

    python -m benchmarks.large_bodies [--bodies 100] [--workers 2] [--out benchmarks/results/large_bodies.json]

Three in five are charts of ten megabytes, the others are brackets, one long string, and a body that says it is eleven.
All connections are open before the first byte is sent. Meanwhile /health/live is read 10 times a second. Reported: the
statuses, the peak memory of all processes together above the start, the time of health, and whether an ordinary
request is answered afterwards.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving import SERVICE, body_of_a_megabyte, post, quantile
from benchmarks.soak import look
from benchmarks.started import served

RESULT = Path(__file__).parent / "results" / "large_bodies.json"
MEGABYTE = 2**20
PATH = f"/cds-services/{SERVICE}"
PROMISED = frozenset({200, 400, 413, 503})


@dataclass(frozen=True, slots=True)
class BodyAnswer:
    """One answer; `status` 0 is a connection that ended without one."""

    status: int
    retry_after: str | None
    seconds: float


@dataclass(slots=True)
class Watched:
    """What was seen from outside while bodies came."""

    health: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)


def bodies(size: int = 10 * MEGABYTE) -> list[bytes]:
    """Five bodies of about `size` and no more, the last of which says that it is larger."""
    chart = json.loads(body_of_a_megabyte())
    labs = chart["prefetch"]["labs"]
    each = len(json.dumps(labs)) // len(labs["entry"])
    more = (size - len(json.dumps(chart))) // (each + 20) - 200
    for number in range(more):
        entry = labs["entry"][number]
        labs["entry"].append({**entry, "resource": {**entry["resource"], "id": f"even-more-{number}"}})
    labs["total"] = len(labs["entry"])
    charts = [json.dumps(chart | {"hookInstance": str(uuid.uuid4())}).encode() for _ in range(3)]
    return [*charts, b"[" * (size - 1), b'"' + b"x" * (size + MEGABYTE)]


def send(port: int, body: bytes, headers: Mapping[str, str], together: threading.Barrier) -> BodyAnswer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.connect()
    together.wait(120)
    started = time.perf_counter()
    with suppress(OSError):  # refused before it was sent whole: the answer is there all the same
        connection.request("POST", PATH, body, {"Content-Type": "application/json", **headers})
    try:
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return BodyAnswer(0, None, time.perf_counter() - started)
    finally:
        connection.close()
    return BodyAnswer(answer.status, answer.getheader("Retry-After"), time.perf_counter() - started)


@contextmanager
def watching(port: int, server: int) -> Iterator[Watched]:
    seen = Watched()

    def health() -> None:
        while not seen.stopped.wait(0.1):
            started = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/health/live")
            ok = connection.getresponse().status == 200
            seen.health.append(time.perf_counter() - started if ok else float("inf"))
            connection.close()

    def memory() -> None:
        while not seen.stopped.wait(0.02):
            seen.megabytes.append(look(server, 0.0).megabytes)

    threads = [threading.Thread(target=each, daemon=True) for each in (health, memory)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        seen.stopped.set()
        for thread in threads:
            thread.join(60)


def flood(
    port: int, server: int, given: list[bytes], headers: list[Mapping[str, str]]
) -> tuple[list[BodyAnswer], Watched]:
    """As many bodies as there are `headers`, all at once."""
    together = threading.Barrier(len(headers))
    with watching(port, server) as seen, ThreadPoolExecutor(len(headers)) as pool:
        waiting = [
            pool.submit(send, port, given[number % len(given)], each, together) for number, each in enumerate(headers)
        ]
        return [each.result() for each in waiting], seen


def summary_of(answers: list[BodyAnswer], seen: Watched, before: float) -> dict[str, Any]:
    return {
        "statuses": dict(sorted(Counter(str(each.status) for each in answers).items())),
        "503_without_retry_after": sum(each.status == 503 and not each.retry_after for each in answers),
        "slowest_answer_seconds": max(each.seconds for each in answers),
        "megabytes_before": before,
        "megabytes_above_it": max(seen.megabytes) - before,
        "health_requests": len(seen.health),
        "health_p95_ms": 1000 * quantile(seen.health, 0.95),
        "health_slowest_ms": 1000 * max(seen.health),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    given, small = bodies(), body_of_a_megabyte()
    rounds = []
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder) / "large.db", options.workers, RISKCARDS_LOG_LEVEL="ERROR") as server,
    ):
        for _ in range(options.rounds):
            before = look(server.pid, 0.0).megabytes
            answers, seen = flood(server.port, server.pid, given, [{}] * options.bodies)
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            after = [post(connection, PATH, small)[0] for _ in range(10)]
            rounds.append(summary_of(answers, seen, before) | {"ordinary_requests_afterwards": after})
            print(rounds[-1]["statuses"], file=sys.stderr)
    result = {"bodies": options.bodies, "body_bytes": [len(body) for body in given], "workers": options.workers}
    result |= {"rounds": rounds}
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))
    kept = all(
        {int(status) for status in each["statuses"]} <= PROMISED
        and not each["503_without_retry_after"]
        and set(each["ordinary_requests_afterwards"]) == {200}
        for each in rounds
    )
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
