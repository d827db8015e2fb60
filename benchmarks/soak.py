"""An hour of ordinary and odd requests against `riskcards serve`: does it grow, slow down, leak handles, or fail?

    python -m benchmarks.soak [--minutes 60] [--rate 5] [--out benchmarks/results/soak.json]

Clients send on schedule what a ward sends: charts seen before, charts with notes nobody has read, feedback, discovery,
health and metrics; and now and then what is malformed, too large, cut off, or foreign. Once in five seconds
memory, open files and threads of all the processes of the server are read. The first tenth of the time is warming up;
what is told is by how much memory and handles grew from the second tenth to the last, and latency with them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from benchmarks.fuzz import EXAMPLES, requests_of
from benchmarks.hook_latency import free_port, wait
from benchmarks.serving import body_of_a_megabyte, quantile, with_new_notes

RESULT = Path(__file__).parent / "results" / "soak.json"
_LOOK_EVERY = 5.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Look:
    """The server's processes at one moment: `megabytes` of the largest, and of all; handles and threads together."""

    at: float
    largest: float
    megabytes: float
    handles: int
    threads: int
    workers: int


@dataclass(slots=True)
class Seen:
    """What came back: (seconds since the start, kind, status, milliseconds) of each request; 0 is no answer at all."""

    answers: list[tuple[float, str, int, float]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)
    acknowledged: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def look(server: int, started: float) -> Look:
    """Of the server and its children, from /proc."""
    listed = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    resident, handles, threads = [], 0, 0
    for process in (str(server), *listed):
        try:
            resident.append(int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE / 2**20)
            handles += len(os.listdir(f"/proc/{process}/fd"))
            threads += len(os.listdir(f"/proc/{process}/task"))
        except OSError:  # a worker that ends between one line and the next
            continue
    return Look(time.monotonic() - started, max(resident), sum(resident), handles, threads, len(listed))


class Ward:
    """Ward(base, seed).ask(session, seen) sends one request of a random kind."""

    def __init__(self, base: str, seed: int) -> None:
        self._base = base
        self._chance = random.Random(seed)
        self._large = body_of_a_megabyte()
        self._charts = requests_of(EXAMPLES)
        self._kinds = (("known", 40), ("small", 25), ("unseen", 5), ("feedback", 10), ("get", 12), ("odd", 8))

    def ask(self, session: requests.Session, seen: Seen, started: float) -> None:
        with seen.lock:
            kind = self._chance.choices([k for k, _ in self._kinds], [weight for _, weight in self._kinds])[0]
            seed = self._chance.randrange(2**31)
        begun = time.monotonic()
        try:
            status = getattr(self, f"_{kind}")(session, random.Random(seed), seen)
        except requests.RequestException:
            status = 0
        with seen.lock:
            seen.answers.append((begun - started, kind, status, (time.monotonic() - begun) * 1000))

    def _post(self, session: requests.Session, path: str, body: bytes) -> requests.Response:
        headers = {"Content-Type": "application/json"}
        return session.post(f"{self._base}/cds-services/{path}", data=body, headers=headers, timeout=60)

    def _hook(self, session: requests.Session, seen: Seen, service: str, request: dict[str, Any]) -> int:
        body = json.dumps(request | {"hookInstance": str(uuid.uuid4())}).encode()
        answer = self._post(session, service, body)
        if answer.status_code == 200:
            with seen.lock:
                seen.cards = [*seen.cards[-200:], *(f"{service} {card['uuid']}" for card in answer.json()["cards"])]
        return answer.status_code

    def _known(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        request = json.loads(self._large)
        request["prefetch"]["patient"]["multipleBirthInteger"] = chance.randrange(40)  # forty charts of a megabyte
        return self._hook(session, seen, "hospital-risk", request)

    def _small(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        return self._hook(session, seen, *chance.choice(self._charts))

    def _unseen(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        body = with_new_notes(self._large, chance.randrange(2**31))
        return self._hook(session, seen, "hospital-risk", json.loads(body))

    def _feedback(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        with seen.lock:
            cards = list(seen.cards)
        if not cards:
            return self._get(session, chance, seen)
        service, card = chance.choice(cards).split()
        at = f"2026-01-01T00:{chance.randrange(60):02}:{chance.randrange(60):02}Z"
        entry = {"card": card, "outcome": "overridden", "outcomeTimestamp": at}
        answer = self._post(session, f"{service}/feedback", json.dumps({"feedback": [entry]}).encode())
        with seen.lock:
            seen.acknowledged += answer.status_code == 200
        return answer.status_code

    def _get(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        path = chance.choice(("/cds-services", "/health/live", "/health/ready", "/metrics", "/openapi.json"))
        return session.get(f"{self._base}{path}", timeout=60).status_code

    def _odd(self, session: requests.Session, chance: random.Random, seen: Seen) -> int:
        service, request = chance.choice(self._charts)
        text = json.dumps(request).encode()
        kind = chance.randrange(5)
        if kind == 0:  # goes away in the middle of its body
            port = int(self._base.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                head = f"POST /cds-services/{service} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                connection.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text[: len(text) // 2])
            return 499
        bodies = (text[: len(text) // 2], b"[" * 5000, b"x" * 11_000_000, text.replace(b"Patient/", b"Patient/x", 3))
        return self._post(session, service, bodies[kind - 1]).status_code


def run(options: argparse.Namespace, base: str, server: int) -> tuple[Seen, float]:
    seen, ward, started = Seen(), Ward(base, options.seed), time.monotonic()
    seconds = 60 * options.minutes
    local = threading.local()

    def one(due: float) -> None:
        time.sleep(max(0.0, due - time.monotonic()))
        if not hasattr(local, "session"):
            local.session = requests.Session()
        ward.ask(local.session, seen, started)

    def watch() -> None:
        while time.monotonic() - started < seconds:
            seen.looks.append(look(server, started))
            time.sleep(_LOOK_EVERY)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, (started + number / options.rate for number in range(int(seconds * options.rate)))))
    watching.join()
    return seen, seconds


def told(seen: Seen, seconds: float) -> dict[str, Any]:
    """Statuses, and what was different at the end from the beginning."""
    by_kind: dict[str, Counter[str]] = {}
    for _, kind, status, _ in seen.answers:
        by_kind.setdefault(kind, Counter())[str(status)] += 1
    early = [a for a in seen.looks if 0.1 <= a.at / seconds < 0.2] or seen.looks[:1]
    late = [a for a in seen.looks if a.at / seconds >= 0.9] or seen.looks[-1:]
    parts = {}
    for name, low, high in (("second_tenth", 0.1, 0.2), ("last_tenth", 0.9, 1.01)):
        there = [item for item in seen.answers if low <= item[0] / seconds < high]
        times = [ms for _, kind, status, ms in there if kind == "known" and status == 200] or [float("nan")]
        parts[name] = {"requests": len(times), "p50_ms": quantile(times, 0.5), "p95_ms": quantile(times, 0.95)}

    def middle(looks: list[Look], name: str) -> float:
        return statistics.median(float(getattr(each, name)) for each in looks)

    figures = ("largest", "megabytes", "handles", "threads", "workers")
    return {
        "minutes": seconds / 60,
        "requests": len(seen.answers),
        "statuses": {kind: dict(sorted(counts.items())) for kind, counts in sorted(by_kind.items())},
        "server_errors": sum(500 <= status != 503 for _, _, status, _ in seen.answers),
        "turned_away_503": sum(counts["503"] for counts in by_kind.values()),
        "no_answer": sum(counts["0"] for counts in by_kind.values()),
        "known_charts_of_a_megabyte": parts,
        "processes": {
            name: {"second_tenth": middle(early, name), "last_tenth": middle(late, name)} for name in figures
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/soak.db"
        env = os.environ | {"RISKCARDS_DATABASE_URL": url, "RISKCARDS_LOG_LEVEL": "WARNING"}
        command = [sys.executable, "-m", "cds_service.cli", "serve", "--insecure", "--port", str(port)]
        with subprocess.Popen([*command, "--workers", str(options.workers)], env=env) as server:
            try:
                wait(f"{base}/health/ready", 120)
                seen, seconds = run(options, base, server.pid)
            finally:
                server.terminate()
        result = told(seen, seconds) | kept(url, seen)
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))
    sys.exit(1 if result["server_errors"] or result["audit_fault"] else 0)


def kept(url: str, seen: Seen) -> dict[str, Any]:
    """Whether the database of the run is whole: its chain, and a card in it for every one that was shown."""
    from cds_service.store import Store

    store = Store(url)
    chain, cards = store.verify_audit(), {entry.subject for entry in store.audit_entries("card")}
    store.close()
    lost = [card for card in seen.cards if card.split()[1] not in cards]
    return {"audit_entries": chain.entries, "audit_fault": chain.fault, "cards_without_audit": len(lost)}


if __name__ == "__main__":
    main()
