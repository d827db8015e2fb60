"""Refusals in the development data, by reason: `python -m benchmarks.refusals DATA [--stays N] [--out FILE]`.

DATA is the development data folder: twelve Synthea bundles, the MIMIC-IV demo on FHIR and 4,000 CinC 2012 stays. Counts
by reason go to FILE as JSON. Every reason must be explained for its data set in `docs/reasons.md`; exit code 1 where
one is not.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.cinc_fhir import IcuStay, read_stays, to_fhir
from fhir_mapping import PatientRecord
from fhir_mapping.bulk import ExportFault, PatientPartitions, partition_by_patient

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "refusals.json"
PAGE = HERE.parent / "docs" / "reasons.md"
PROCESSES = 2
_STAYS_AT_ONCE = 100
_ROW = re.compile(r"\| (synthea|mimic|cinc2012) \| `([a-z-]+)` \| \S")


@dataclass
class Census:
    """Patients, and refusals by reason code."""

    patients: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, record: PatientRecord) -> None:
        self.patients += 1
        self.refused.update(refusal.reason for refusal in record.refused)

    def merge(self, other: Census) -> None:
        self.patients += other.patients
        self.refused.update(other.refused)

    def to_json(self) -> dict[str, Any]:
        return {"patients": self.patients, "refused": dict(self.refused.most_common())}


def census(records: Iterable[PatientRecord]) -> Census:
    found = Census()
    for record in records:
        found.add(record)
    return found


def of_bundle(path: Path) -> Census:
    return census([PatientRecord.from_json(gzip.decompress(path.read_bytes()))])


def of_bucket(work: Path, number: int) -> Census:
    return census(_whole(PatientPartitions(work).bucket(number)))


def _whole(found: Iterable[PatientRecord | ExportFault]) -> Iterator[PatientRecord]:
    for record in found:
        if isinstance(record, ExportFault):
            raise ValueError(f"{record.place}: {record.reason}")
        yield record


def of_stays(stays: Sequence[IcuStay]) -> Census:
    return census(PatientRecord.from_resources(to_fhir(stay)) for stay in stays)


def run(data: Path, stays: int, *, processes: int = PROCESSES) -> dict[str, Census]:
    """A census of each data set, `processes` parts of the data at a time; says on standard error how far it is."""
    found = {name: Census() for name in ("synthea", "mimic", "cinc2012")}
    begun = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="riskcards-refusals-") as work,
        ProcessPoolExecutor(processes, mp_context=context) as pool,
    ):
        parts = {pool.submit(of_bundle, path): "synthea" for path in sorted((data / "synthea").rglob("*.json.gz"))}
        path = next((data / "cinc2012").glob("set-a*"))
        waiting = islice(read_stays(path), stays)
        while some := tuple(islice(waiting, _STAYS_AT_ONCE)):
            parts[pool.submit(of_stays, some)] = "cinc2012"
        dealt = partition_by_patient(data / "mimic-iv-demo-fhir", Path(work))
        parts |= {pool.submit(of_bucket, dealt.work, number): "mimic" for number in range(dealt.buckets)}
        for number, part in enumerate(as_completed(parts), start=1):
            found[parts[part]].merge(part.result())
            _say(f"{number} of {len(parts)} parts, {time.monotonic() - begun:.0f} s")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def explained(page: str) -> Mapping[str, frozenset[str]]:
    """The reasons that `docs/reasons.md` explains, by data set."""
    found: dict[str, set[str]] = {}
    for data, reason in _ROW.findall(page):
        found.setdefault(data, set()).add(reason)
    return {data: frozenset(reasons) for data, reasons in found.items()}


def unexplained(found: Mapping[str, Census], page: str) -> list[str]:
    """Each `data set: reason` that occurs and that the page does not explain."""
    known = explained(page)
    pairs = ((name, reason) for name, counted in found.items() for reason in counted.refused)
    return [f"{name}: {reason}" for name, reason in pairs if reason not in known.get(name, ())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--stays", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = run(options.data, options.stays, processes=options.processes)
    document = json.dumps({name: counted.to_json() for name, counted in found.items()}, indent=1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(document + "\n", "utf-8")
    print(document)
    missing = unexplained(found, PAGE.read_text("utf-8"))
    if missing:
        sys.exit(f"not explained in docs/reasons.md: {', '.join(missing)}")


if __name__ == "__main__":
    main()
