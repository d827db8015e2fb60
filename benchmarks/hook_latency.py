"""Latency of a 1 MB hook request to the demo server, and memory of the serving process.

    python -m benchmarks.hook_latency [--requests 60] [--out benchmarks/results/hook_latency.json]

Starts `riskcards demo` as a process of its own on shipped patients, fires patient-view over HTTP with a body of about
one megabyte whose notes were seen before, and reads the process's own memory and loaded libraries.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import requests

from benchmarks.started import started

RESULT = Path(__file__).parent / "results" / "hook_latency.json"


def fitting_request(base: str, size: int = 1_050_000) -> bytes:
    """The largest patient-view request of the shipped patients that is no larger than `size`."""
    page = requests.get(f"{base}/demo/", timeout=30).text
    patients = [part.split('"')[0] for part in page.split('data-patient="')[1:]]
    bodies = []
    for patient in patients:
        answer = requests.post(f"{base}/demo/api/request/hospital-risk/{patient}", json={}, timeout=30)
        if answer.ok:
            bodies.append(answer.content)
    return max((body for body in bodies if len(body) <= size), key=len)


def padded(body: bytes, size: int = 1_000_000) -> bytes:
    """Grow a smaller body to about `size` with more observations of the same patient, as a longer stay would."""
    request: dict[str, Any] = json.loads(body)
    entries = request["prefetch"]["labs"]["entry"] or request["prefetch"]["vitals"]["entry"]
    number = 0
    while entries and len(json.dumps(request)) < size:
        copies = [json.loads(json.dumps(entry)) for entry in entries[:100]]
        for copy in copies:
            number += 1
            copy["resource"]["id"] = f"more-{number}"
        entries.extend(copies)
    request["prefetch"]["labs"]["total"] = len(request["prefetch"]["labs"]["entry"])
    return json.dumps(request).encode()


def process_facts(pid: int) -> tuple[float, bool]:
    """Resident megabytes, and whether a torch library is mapped into the process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return resident / 1024, "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    with started("demo", "--no-browser", ready="/health/live") as server:
        time.sleep(8)  # the demo reads every chart once ahead of the first click
        body = padded(fitting_request(server.base))
        times = []
        for number in range(options.requests + 5):
            begun = time.perf_counter()
            answer = requests.post(
                f"{server.base}/cds-services/hospital-risk",
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=30,
            )
            if answer.status_code != 200 or not answer.json()["cards"]:
                sys.exit(f"answered {answer.status_code}: {answer.text[:300]}")
            if number >= 5:
                times.append((time.perf_counter() - begun) * 1000)
        resident, torch = process_facts(server.pid)
    times.sort()
    result = {
        "body_megabytes": round(len(body) / 1e6, 2),
        "requests": len(times),
        "p50_ms": round(statistics.median(times), 1),
        "p95_ms": round(times[int(0.95 * (len(times) - 1))], 1),
        "rss_megabytes": round(resident, 1),
        "torch_loaded": torch,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
