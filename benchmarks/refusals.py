"""How many resources of the development data are refused, and why: `python -m benchmarks.refusals DATA [--stays N]`.

DATA is the development data folder: twelve Synthea bundles, the MIMIC-IV demo on FHIR and 4,000 CinC 2012 stays.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from benchmarks.cinc_fhir import read_stays, to_fhir
from fhir_mapping import PatientRecord
from fhir_mapping.population import Fault, deal


def synthea(data: Path) -> Iterator[PatientRecord]:
    for path in sorted((data / "synthea").rglob("*.json.gz")):
        yield PatientRecord.from_json(gzip.decompress(path.read_bytes()))


def mimic(data: Path) -> Iterator[PatientRecord]:
    with tempfile.TemporaryDirectory(prefix="riskcards-refusals-") as work:
        dealt = deal(data / "mimic-iv-demo-fhir", Path(work) / "buckets", lambda _: None)
        for record in dealt.patients():
            if isinstance(record, Fault):
                raise ValueError(f"{record.place}: {record.reason}")
            yield record


def cinc(data: Path, stays: int) -> Iterator[PatientRecord]:
    path = next((data / "cinc2012").glob("set-a*"))
    for stay in islice(read_stays(path), stays):
        yield PatientRecord.from_resources(to_fhir(stay))


def census(records: Iterable[PatientRecord]) -> dict[str, object]:
    """Patients, and refusals by reason code."""
    patients, reasons = 0, Counter[str]()
    for record in records:
        patients += 1
        record.features()
        reasons.update(refusal.reason for refusal in record.refused)
    return {"patients": patients, "refused": dict(reasons.most_common())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--stays", type=int, default=4000)
    options = parser.parse_args()
    sources = {
        "synthea": synthea(options.data),
        "mimic": mimic(options.data),
        "cinc2012": cinc(options.data, options.stays),
    }
    print(json.dumps({name: census(records) for name, records in sources.items()}, indent=1))


if __name__ == "__main__":
    main()
