"""Commands on folders of 1 to 100,000 patients, on one and on two workers: time, processor time, peak memory.

    python -m benchmarks.scaling [--sizes 1 10 100 1000 10000 100000] [--workers 1 2] [--commands map score explain]
                                 [--out benchmarks/results/scaling.json]

Each patient is the example of `examples/sepsis-icu-first-day` with ids and measured values of its own: 63 resources in
35 kB, notes among them, and an estimate, not an abstention. Retrieved literature is therefore often the same and comes
from the cache of answers; a hospital's patients differ more. The peak is the memory of all processes of a command
together, in which pages that they share count once for each.

A measurement that is in the results file is not made again: an interrupted run goes on, and a row that is deleted is
measured anew. It ends with an error where two runs on the same patients wrote different bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.population import resident
from benchmarks.readme import RESULTS, ROOT

CHART = ROOT / "examples" / "sepsis-icu-first-day" / "bundle.json"
AS_OF = ("--as-of", "2024-02-11T03:00:00Z")
COMMANDS = {
    "map": ("map", "--to", "features"),
    "score": ("score", "--task", "in_hospital_mortality"),
    "explain": ("explain", "--task", "in_hospital_mortality"),
}


def generate(folder: Path, patients: int) -> int:
    """Writes the patients as Bulk Data, a file for each type; returns its bytes."""
    resources = [entry["resource"] for entry in json.loads(CHART.read_text("utf-8"))["entry"]]
    templates = [(each["resourceType"], each["id"], json.dumps(each)) for each in resources]
    keys = [(f'"{kind}/{name}"', kind, name) for kind, name, _ in templates]
    dice, size = random.Random(23), 0
    folder.mkdir()
    files = {kind: (folder / f"{kind}.ndjson").open("w", encoding="utf-8") for kind in {kind for kind, *_ in templates}}
    for number in range(patients):
        for kind, name, text in templates:
            for reference, other, target in keys:
                text = text.replace(reference, f'"{other}/{target}-{number}"')
            chart = json.loads(text) | {"id": f"{name}-{number}"}
            if isinstance(quantity := chart.get("valueQuantity"), dict):
                quantity["value"] = round(quantity["value"] * dice.uniform(0.95, 1.05), 3)
            size += files[kind].write(json.dumps(chart) + "\n")
    for file in files.values():
        file.close()
    return size


def measured(command: str, folder: Path, out: Path, workers: int) -> dict[str, Any]:
    """Runs a command; returns what it took."""
    line = [sys.executable, "-m", "cds_service.cli", *COMMANDS[command], str(folder), *AS_OF, "--out", str(out)]
    load, before = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN)
    started, peak = time.monotonic(), 0
    with subprocess.Popen([*line, "--workers", str(workers)], stderr=subprocess.DEVNULL, cwd=ROOT) as running:
        while running.poll() is None:
            peak = max(peak, resident(running.pid))
            time.sleep(0.1)
    if running.returncode:
        sys.exit(f"riskcards {command} left with {running.returncode}")
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(used, 1),
        "peak_megabytes": round(peak / 1e6),
        "load_before": round(load, 1),
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100, 1000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--commands", nargs="+", choices=sorted(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    options = parser.parse_args()
    result: dict[str, Any] = {"cores": os.cpu_count(), "rows": {}}
    if options.out.exists():
        result = json.loads(options.out.read_text("utf-8"))
    rows = result["rows"]
    for size in options.sizes:
        asked = [(command, workers) for command in options.commands for workers in options.workers]
        missing = [each for each in asked if f"{each[0]}, {size} patients, {each[1]} workers" not in rows]
        if not missing:
            continue
        with tempfile.TemporaryDirectory(prefix="riskcards-scaling-") as scratch:
            folder = Path(scratch) / "export"
            megabytes = round(generate(folder, size) / 1e6, 2)
            for command, workers in missing:
                name = f"{command}, {size} patients, {workers} workers"
                rows[name] = {"megabytes": megabytes} | measured(command, folder, Path(scratch) / "out", workers)
                print(name, rows[name], flush=True)
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for name, row in rows.items():
        single = rows.get(f"{name.rsplit(', ', 1)[0]}, 1 workers", row)
        if row["sha256"] != single["sha256"]:
            sys.exit(f"{name}: other bytes than one worker wrote")


if __name__ == "__main__":
    main()
