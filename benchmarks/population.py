"""A Bulk Data folder of 100,000 small patients to features, on one and on two processes: speed and peak memory.

    python -m benchmarks.population [--patients 100000] [--out benchmarks/results/population.json]

The folder is generated here: seven resources to a patient, a file to a type in four shards, half of them compressed,
lines in an order that mixes patients. `riskcards map` runs as a process of its own; the peak is of all its processes
together.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

RESULT = Path(__file__).parent / "results" / "population.json"
SHARDS = 4
VALUES = (("2951-2", "mmol/L", 128, 148), ("8867-4", "/min", 50, 130), ("2160-0", "mg/dL", 1, 4), ("9999-9", "1", 0, 9))
CLASSES = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def chart(number: int, dice: random.Random) -> Iterator[dict[str, Any]]:
    """One patient: a stay, a condition, four observations of which one is of no use to us."""
    owner = {"subject": {"reference": f"Patient/p{number}"}}
    day = f"2024-{dice.randint(1, 12):02d}-{dice.randint(1, 27):02d}"
    born = f"{dice.randint(1930, 2000)}-03-04"
    yield {"resourceType": "Patient", "id": f"p{number}", "birthDate": born, "gender": dice.choice(["male", "female"])}
    stay = {
        "status": "in-progress",
        "class": {"system": CLASSES, "code": "IMP"},
        "period": {"start": f"{day}T06:00:00Z"},
    }
    yield {"resourceType": "Encounter", "id": f"e{number}", **stay, **owner}
    code = {"coding": [{"system": "http://snomed.info/sct", "code": "38341003", "display": "Hypertension"}]}
    yield {"resourceType": "Condition", "id": f"c{number}", "code": code, "recordedDate": day, **owner}
    for place, (loinc, unit, low, high) in enumerate(VALUES):
        yield {
            "resourceType": "Observation",
            "id": f"o{number}-{place}",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": loinc}]},
            "effectiveDateTime": f"{day}T{dice.randint(7, 23):02d}:30:00Z",
            "valueQuantity": {"value": dice.randint(low, high), "unit": unit, "code": unit},
            **owner,
        }


def generate(folder: Path, patients: int) -> int:
    """Write the folder; its size in bytes before packing. Patients come in an order of their own in every file."""
    dice = random.Random(20)
    size = 0
    with ExitStack() as stack:
        files: dict[tuple[str, int], Any] = {}
        for number in dice.sample(range(patients), patients):
            for resource in chart(number, dice):
                key = (resource["resourceType"], dice.randrange(SHARDS))
                if key not in files:
                    name = f"{key[0]}.{key[1]}.ndjson"
                    files[key] = stack.enter_context(_opened(folder / name, packed=bool(key[1] % 2)))
                line = json.dumps(resource).encode() + b"\n"
                size += len(line)
                files[key].write(line)
    return size


def _opened(path: Path, *, packed: bool) -> IO[bytes]:
    if packed:
        return cast(IO[bytes], gzip.GzipFile(f"{path}.gz", "wb", compresslevel=1))
    return path.open("wb")


def resident(root: int) -> int:
    """Bytes resident in a process and all its children."""
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            waiting += [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += 1024 * sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return total


def run(folder: Path, out: Path, processes: int) -> dict[str, float]:
    command = [sys.executable, "-m", "cds_service.cli", "map", str(folder), "--to", "features", "--out", str(out)]
    started, peak = time.monotonic(), 0
    with subprocess.Popen([*command, "--processes", str(processes)], stderr=subprocess.DEVNULL) as running:
        while running.poll() is None:
            peak = max(peak, resident(running.pid))
            time.sleep(0.1)
    if running.returncode:
        sys.exit(f"riskcards map left with {running.returncode}")
    return {"seconds": round(time.monotonic() - started, 1), "peak_megabytes": round(peak / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    result: dict[str, Any] = {"patients": options.patients, "cores": os.cpu_count(), "runs": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "export"
        folder.mkdir()
        result["megabytes"] = round(generate(folder, options.patients) / 1e6, 1)
        answers = []
        for processes in (1, 2):
            out = Path(scratch) / f"{processes}.jsonl"
            found = run(folder, out, processes)
            with out.open("rb") as lines:
                count = sum(1 for _ in lines)
            if count != options.patients:
                sys.exit(f"{count} patients came out, {options.patients} went in")
            speed = round(options.patients / found["seconds"], 1)
            result["runs"][f"{processes} processes"] = found | {"patients_per_second": speed}
            answers.append(out)
            print(processes, result["runs"][f"{processes} processes"], flush=True)
        result["same_output"] = subprocess.run(["cmp", "-s", *map(str, answers)], check=False).returncode == 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
