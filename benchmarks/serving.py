"""Requests a second of `riskcards serve` for 1 MB bodies with known notes, beside HealthChain reading the same body.

    python -m benchmarks.serving [--seconds 20] [--workers 2] [--out benchmarks/results/serving.json]

Measured in one run, as fast as it goes (as many clients as it takes) and at half that rate (open loop: requests are
sent on schedule, whether or not answers are back): a prefetch that comes again byte for byte, whose record and
estimates are remembered for a minute, and a prefetch that is new each time, where only the notes were seen before. Then
five notes never seen before, one request at a time. HealthChain is measured through the interpreter of `make peers`, in
the same run, on the same bytes; without it that row says so. What the client itself costs is on the same two cores.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.hook_latency import padded
from benchmarks.started import served
from cds_service.demo.requests import hook_request
from cds_service.demo.ward.patients import shipped
from cds_service.services import SERVICES

RESULT = Path(__file__).parent / "results" / "serving.json"
SERVICE = "hospital-risk"
_TEXT = (
    "patient denies chest pain and reports shortness of breath on exertion with bilateral leg oedema and a productive "
    "cough since three days heart failure atrial fibrillation diabetes mellitus chronic kidney disease pneumonia fever "
    "stable on oral furosemide plan continue antibiotics repeat creatinine tomorrow family informed"
)


def body_of_a_megabyte() -> bytes:
    """The largest shipped patient's request under a megabyte, grown to it with more of the same."""
    bodies = []
    for patient in shipped().patients.values():
        body = json.dumps(hook_request(patient, SERVICES[SERVICE])).encode()
        if len(body) < 1_050_000:
            bodies.append(body)
    return padded(max(bodies, key=len))


def with_new_notes(body: bytes, seed: int, notes: int = 5, words: int = 750) -> bytes:
    """The body with notes not read before: about 1,000 tokens each, dated like the newest one there is."""
    request = json.loads(body)
    chance, words_known = random.Random(seed), _TEXT.split()
    entries = request["prefetch"]["documents"]["entry"]
    for number in range(notes):
        copy = json.loads(json.dumps(entries[0]))
        text = f"ASSESSMENT: {uuid.uuid4()}\n" + " ".join(chance.choice(words_known) for _ in range(words))
        copy["resource"]["id"] = f"new-{seed}-{number}"
        data = base64.b64encode(text.encode()).decode()
        copy["resource"]["content"] = [{"attachment": {"contentType": "text/plain", "data": data}}]
        entries.insert(0, copy)
    request["prefetch"]["documents"]["total"] = len(entries)
    return json.dumps(request).encode()


@dataclass(frozen=True, slots=True)
class Bodies:
    """Requests of one chart, each with its own hookInstance, and, unless `same`, with a prefetch never sent before.

    The notes are the same in all. Parted once at two marks, so that making one costs the client next to nothing.
    """

    head: bytes
    middle: bytes
    tail: bytes
    same: bool

    @classmethod
    def of(cls, body: bytes, *, same: bool) -> Bodies:
        request = json.loads(body)
        request["hookInstance"], request["prefetch"]["patient"]["multipleBirthInteger"] = "#1#", 123454321
        head, _, rest = json.dumps(request).encode().partition(b"#1#")
        middle, _, tail = rest.partition(b"123454321")
        return cls(head, middle, tail, same)

    def next(self) -> bytes:
        number = 7 if self.same else random.randrange(10**9)
        return b"".join((self.head, str(uuid.uuid4()).encode(), self.middle, b"%d" % number, self.tail))


def post(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, float]:
    """Status, and milliseconds until the whole answer was there."""
    started = time.perf_counter()
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
    except (http.client.RemoteDisconnected, ConnectionError):
        connection.close()  # kept open too long for the server: asked again on a new one, as browsers do
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
    answer.read()
    return answer.status, (time.perf_counter() - started) * 1000


def flat_out(port: int, path: str, bodies: Bodies, seconds: float, clients: int) -> tuple[float, list[float]]:
    """(answers with a card a second, milliseconds of each); what was turned away does not count."""
    end = time.perf_counter() + seconds

    def client(_: int) -> list[float]:
        connection, times = http.client.HTTPConnection("127.0.0.1", port, timeout=60), []
        while time.perf_counter() < end:
            status, took = post(connection, path, bodies.next())
            if status == 200:
                times.append(took)
        return times

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = [took for each in pool.map(client, range(clients)) for took in each]
    return len(times) / (time.perf_counter() - started), times


def on_schedule(port: int, path: str, bodies: Bodies, seconds: float, rate: float) -> list[float]:
    """Milliseconds from when each request was due, so that a queue shows."""
    start, local = time.perf_counter() + 0.2, threading.local()

    def one(due: float) -> float:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        time.sleep(max(0.0, due - time.perf_counter()))
        status, _ = post(local.connection, path, bodies.next())
        return (time.perf_counter() - due) * 1000 if status == 200 else float("inf")

    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(one, (start + number / rate for number in range(int(seconds * rate)))))


HEALTHCHAIN = """
import json, sys, time
from healthchain.models.requests.cdsrequest import CDSRequest
from healthchain.fhir import convert_prefetch_to_fhir_objects
raw = open(sys.argv[1], 'rb').read()
times = []
end = time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end or len(times) < 3:
    started = time.perf_counter()
    request = CDSRequest.model_validate_json(raw)
    convert_prefetch_to_fhir_objects({k: v for k, v in request.prefetch.items() if v})
    times.append(time.perf_counter() - started)
print(json.dumps(times))
"""


def healthchain(body: bytes, seconds: float, python: Path) -> dict[str, Any] | str:
    """One process reading the body into HealthChain's own FHIR objects, on one core; no risk, no card."""
    if not python.exists():
        return "not installed: make peers"
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(body)
        file.flush()
        command = [str(python), "-c", HEALTHCHAIN, file.name, str(seconds)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        return f"failed: {run.stderr.strip().splitlines()[-1][:200]}"
    times = json.loads(run.stdout.strip().splitlines()[-1])
    return {"per_second_one_process": 1 / statistics.median(times), "p50_ms": 1000 * statistics.median(times)}


def quantile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def rates(options: argparse.Namespace, port: int, path: str, bodies: Bodies) -> dict[str, Any]:
    """Flat out, and at half of that."""
    rate, times = flat_out(port, path, bodies, options.seconds, options.clients)
    half = on_schedule(port, path, bodies, options.seconds, rate / 2)
    return {
        "flat_out": {"per_second": rate, "p50_ms": quantile(times, 0.5), "p95_ms": quantile(times, 0.95)},
        "half_load": {"per_second": rate / 2, "p50_ms": quantile(half, 0.5), "p95_ms": quantile(half, 0.95)},
    }


def measured(options: argparse.Namespace, port: int, path: str, say: Callable[[str], None]) -> dict[str, Any]:
    body = body_of_a_megabyte()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(10 * options.workers):
        post(connection, path, body)
    say("a prefetch that comes again")
    same = rates(options, port, path, Bodies.of(body, same=True))
    say(f"{same['flat_out']['per_second']:.0f}/s; every prefetch new, its notes known")
    distinct = rates(options, port, path, Bodies.of(body, same=False))
    say(f"{distinct['flat_out']['per_second']:.0f}/s; notes never seen")
    unseen = [post(connection, path, with_new_notes(body, seed))[1] for seed in range(options.unseen)]
    say("HealthChain")
    peer = healthchain(body, options.seconds, options.peer_python)
    answer: dict[str, Any] = {
        "body_bytes": len(body),
        "workers": options.workers,
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "same_prefetch_again": same,
        "every_prefetch_new_notes_known": distinct,
        "five_unseen_notes": {"p50_ms": quantile(unseen, 0.5), "p95_ms": quantile(unseen, 0.95)},
        "healthchain_reading": peer,
    }
    if isinstance(peer, dict):
        one = peer["per_second_one_process"]
        for name in ("same_prefetch_again", "every_prefetch_new_notes_known"):
            rate = answer[name]["flat_out"]["per_second"]
            answer[name]["times_one_healthchain_process"] = rate / one
            answer[name]["times_as_many_healthchain_processes"] = rate / one / options.workers
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--unseen", type=int, default=30, help="requests with five new notes each")
    parser.add_argument("--peer-python", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder) / "serving.db", options.workers, RISKCARDS_LOG_LEVEL="WARNING") as server,
    ):
        result = measured(options, server.port, f"/cds-services/{SERVICE}", lambda text: print(text, file=sys.stderr))
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
