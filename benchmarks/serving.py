"""Requests a second of `riskcards serve` for 1 MB bodies with known notes, beside HealthChain reading the same body.

    python -m benchmarks.serving [--seconds 20] [--workers 2] [--out benchmarks/results/serving.json]

Three measurements in one run: as fast as it goes (as many clients as it takes), at half that rate (open loop: requests
are sent on schedule, whether or not answers are back), and five notes never seen before, one request at a time.
HealthChain is measured through the interpreter of `make peers`, in the same run, on the same bytes; without it that
row says so. What the client itself costs is on the same two cores.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from benchmarks.hook_latency import free_port, padded, wait
from cds_service.demo.blueprint import _request
from cds_service.demo.patients import shipped

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
        body = json.dumps(_request(patient, SERVICE)).encode()
        if len(body) < 1_050_000:
            bodies.append(body)
    return padded(max(bodies, key=len))


def with_new_notes(body: bytes, seed: int, notes: int = 5, words: int = 750) -> bytes:
    """The body with notes nobody has read: about 1,000 tokens each, dated like the newest one there is."""
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


def post(session: requests.Session, url: str, body: bytes) -> tuple[int, float]:
    started = time.perf_counter()
    answer = session.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=60)
    return answer.status_code, (time.perf_counter() - started) * 1000


def flat_out(url: str, body: bytes, seconds: float, clients: int) -> tuple[float, list[float]]:
    """(answers with a card a second, milliseconds of each); what was turned away does not count."""
    end = time.perf_counter() + seconds

    def client(_: int) -> list[float]:
        session, times = requests.Session(), []
        while time.perf_counter() < end:
            status, took = post(session, url, body)
            if status == 200:
                times.append(took)
        return times

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = [took for each in pool.map(client, range(clients)) for took in each]
    return len(times) / (time.perf_counter() - started), times


def on_schedule(url: str, body: bytes, seconds: float, rate: float) -> list[float]:
    """Milliseconds from when each request was due, so that a queue shows."""
    session, start = requests.Session(), time.perf_counter() + 0.2
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))

    def one(due: float) -> float:
        time.sleep(max(0.0, due - time.perf_counter()))
        status, _ = post(session, url, body)
        return (time.perf_counter() - due) * 1000 if status == 200 else float("inf")

    with ThreadPoolExecutor(64) as pool:
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


def measured(options: argparse.Namespace, url: str, say: Callable[[str], None]) -> dict[str, Any]:
    body = body_of_a_megabyte()
    session = requests.Session()
    for _ in range(10 * options.workers):
        post(session, url, body)
    say(f"flat out, {options.clients} clients")
    rate, times = flat_out(url, body, options.seconds, options.clients)
    say(f"{rate:.0f}/s; on schedule at half of it")
    half = on_schedule(url, body, options.seconds, rate / 2)
    say("notes never seen")
    unseen = [post(session, url, with_new_notes(body, seed))[1] for seed in range(options.unseen)]
    say("HealthChain")
    peer = healthchain(body, options.seconds, options.peer_python)
    answer: dict[str, Any] = {
        "body_bytes": len(body),
        "workers": options.workers,
        "cores": os.cpu_count(),
        "known_notes": {"per_second": rate, "p50_ms": quantile(times, 0.5), "p95_ms": quantile(times, 0.95)},
        "half_load": {"per_second": rate / 2, "p50_ms": quantile(half, 0.5), "p95_ms": quantile(half, 0.95)},
        "five_unseen_notes": {"p50_ms": quantile(unseen, 0.5), "p95_ms": quantile(unseen, 0.95)},
        "healthchain_reading": peer,
    }
    if isinstance(peer, dict):
        answer["ratio_to_healthchain"] = rate / (options.workers * peer["per_second_one_process"])
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
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {
            "RISKCARDS_DATABASE_URL": f"sqlite:///{folder}/serving.db",
            "RISKCARDS_LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "cds_service.cli", "serve", "--insecure", "--port", str(port)]
        with subprocess.Popen([*command, "--workers", str(options.workers)], env=env) as server:
            try:
                wait(f"{url}/health/ready")
                result = measured(options, f"{url}/cds-services/{SERVICE}", lambda text: print(text, file=sys.stderr))
            finally:
                server.terminate()
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
