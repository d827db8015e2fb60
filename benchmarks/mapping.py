"""Reading a chart beside other ways to read it: json.loads, orjson, FHIR libraries, on the same bytes.

    python -m benchmarks.mapping [--data ../shared/data] [--rounds 15] [--out benchmarks/results/mapping.json]

`riskcards` goes from bytes to features and decoded notes, of a hook body through the service's own strict reading; the
others stop at parsed or validated objects. In each round every way runs once, in turn, each in a process of its own
and right after json.loads on the same bytes in that process: the ratio to it holds on a busy machine too. Results are
medians with quartiles; memory is the growth of the peak during one run, as a multiple of the input. HealthChain and
fhirkit-rs do not fit our lock: `make peers` installs them, hash-locked by benchmarks/peers.txt, into .venv-peers;
without it they are reported as not installed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from benchmarks.hook_latency import padded
from benchmarks.mapping_way import WAYS
from cds_service.demo.ward.chart import Chart
from cds_service.services import SERVICES

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "mapping.json"
PEERS = ROOT / ".venv-peers" / "bin" / "python"
ELSEWHERE = frozenset({"HealthChain", "fhirkit-rs"})
CHARTS = ("with-notes/Wilson_Bode", "with-notes/Carlos_Medina", "original/Bambi_Murray")
HOOK_OF = "with-notes/Della_Hettinger"
ABSENT = "not installed"


def hook_body(bundle: bytes) -> bytes:
    """A patient-view request of about one megabyte: the chart's own prefetch, filled up as a longer stay would be."""
    chart = Chart.from_bundle(json.loads(bundle))
    context = {"patientId": chart.patient["id"], "userId": "Practitioner/x"}
    service = SERVICES["hospital-risk"]
    prefetch = service.fill_prefetch(context, chart.query)
    request = service.request_body(context, prefetch, hook_instance=str(uuid.UUID(int=1)))
    return padded(json.dumps(request).encode())


class Process:
    """A way in a process of its own; `None` for one whose library is not there."""

    def __init__(self, way: str, kind: str, path: Path) -> None:
        interpreter = PEERS if way in ELSEWHERE else Path(sys.executable)
        script = str(Path(__file__).with_name("mapping_way.py"))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._running: subprocess.Popen[str] | None = None
        if not interpreter.exists():
            return
        running = subprocess.Popen(
            [str(interpreter), script, way, kind, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert running.stdout is not None
        if running.stdout.readline().strip() == "ready":
            self._running = running

    @property
    def there(self) -> bool:
        return self._running is not None

    def ask(self, line: str = "run") -> list[float]:
        assert self._running is not None
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        self._running.stdin.write(line + "\n")
        self._running.stdin.flush()
        return [float(part) for part in self._running.stdout.readline().split()]

    def close(self) -> None:
        if self._running is not None:
            self._running.communicate()


def measure(raw: bytes, kind: str, rounds: int) -> dict[str, Any]:
    """Every way on one input."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(raw)
        file.flush()
        processes = {way: Process(way, kind, Path(file.name)) for way in WAYS}
        times: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for number in range(rounds + 1):
            for way, process in processes.items():
                if process.there:
                    pair = process.ask()
                    times[way] += [pair] if number else []  # the first round warms up
        for process in processes.values():
            process.close()
        memory = {way: _memory(way, kind, Path(file.name)) for way, process in processes.items() if process.there}
    return {way: facts(times[way], memory[way] / len(raw)) if times[way] else ABSENT for way in WAYS}


def _memory(way: str, kind: str, path: Path) -> float:
    """Bytes by which the peak grows in a process that has read nothing before."""
    process = Process(way, kind, path)
    grown = process.ask("memory")[0]
    process.close()
    return grown


def facts(pairs: list[list[float]], memory: float) -> dict[str, Any]:
    own = [1000 * pair[1] for pair in pairs]
    low, middle, high = statistics.quantiles(own, n=4)
    ratios = statistics.quantiles([pair[1] / pair[0] for pair in pairs], n=4)
    return {
        "median_ms": round(middle, 2),
        "quartiles_ms": [round(low, 2), round(high, 2)],
        "times_json_loads": round(ratios[1], 2),
        "ratio_quartiles": [round(ratios[0], 2), round(ratios[2], 2)],
        "memory_times_input": round(memory, 2),
    }


def table(result: dict[str, Any]) -> str:
    lines = []
    for name, found in result["inputs"].items():
        lines.append(f"\n{name}: {found['megabytes']} MB, {found['resources']} resources")
        lines.append(f"  {'way':<16}{'median ms':>10}{'quartiles':>18}{'x json.loads':>14}{'memory x input':>16}")
        for way, facts_of in found["ways"].items():
            if facts_of == ABSENT:
                lines.append(f"  {way:<16}{ABSENT:>14}")
                continue
            low, high = facts_of["quartiles_ms"]
            lines.append(
                f"  {way:<16}{facts_of['median_ms']:>10.1f}{f'{low:.1f} - {high:.1f}':>18}"
                f"{facts_of['times_json_loads']:>14.2f}{facts_of['memory_times_input']:>16.2f}"
            )
    return "\n".join(lines)


def resources(raw: bytes, kind: str) -> int:
    value = json.loads(raw)
    documents = [value] if kind == "bundle" else value["prefetch"].values()
    return sum(len(d.get("entry") or [d]) for d in documents if d)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "synthea")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()

    def chart(name: str) -> bytes:
        return gzip.decompress((options.data / f"{name}.json.gz").read_bytes())

    inputs = {f"chart {name}": (chart(name), "bundle") for name in CHARTS}
    inputs["hook body"] = (hook_body(chart(HOOK_OF)), "hook")
    result = {"rounds": options.rounds, "cores": os.cpu_count(), "inputs": {}}
    for name, (raw, kind) in inputs.items():
        ways = measure(raw, kind, options.rounds)
        size = {"megabytes": round(len(raw) / 1e6, 2), "resources": resources(raw, kind)}
        result["inputs"][name] = size | {"ways": ways}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
