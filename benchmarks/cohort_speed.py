"""Time of cohorts from MEDS, and how it grows with the events.

`python -m benchmarks.cohort_speed --out FOLDER [--events N] [--workers N]` writes a synthetic dataset of N events (five
million by default; about 2,000 of each subject: laboratory values, diagnoses, drugs, stays), one of half and one of a
quarter, builds a readmission cohort from each, and writes metrics.json: seconds, processor time of all processes in
microseconds an event, and how both grew. On a machine that others use the processor time is what counts. Nothing of the
data is real.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from artifact_store import Workers
from risk_model.cohorts import CohortOptions, MedsDataset, build_cohort
from risk_model.labels import find_definition

_READABLE = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
EVENTS = 5_000_000
A_SUBJECT = 2_000
_VALUES = ("2951-2//mmol/L", "2823-3//mmol/L", "2160-0//mg/dL", "718-7//g/dL", "8867-4///min")
_CODES = (
    [f"LOINC//{value}" for value in _VALUES]
    + [f"ICD10CM//{letter}{number}.9" for letter in "EIJN" for number in (10, 11, 50, 18)]
    + [f"RXNORM//{number}" for number in (161, 4603, 1191, 6809)]
)
_NUMBERS = len(_VALUES)
_BEGIN = datetime(2015, 1, 1, tzinfo=UTC).replace(tzinfo=None)  # MEDS times have no zone
_STAY_EVERY = 400
"""A stay and a readmission come in every so many events."""


def write_dataset(folder: Path, events: int) -> int:
    """Writes the dataset; returns the number of its events."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    (folder / "data").mkdir(parents=True)
    generator, written = np.random.default_rng(events), 0
    kinds = {"subject_id": pa.int64(), "time": pa.timestamp("us"), "code": pa.string(), "numeric_value": pa.float32()}
    schema = pa.schema(list(kinds.items()))
    with parquet.ParquetWriter(folder / "data" / "0.parquet", schema) as stream:
        for subject in range(1, events // A_SUBJECT + 1):
            rows = _subject(subject, generator)
            written += len(rows)
            stream.write_table(pa.Table.from_pylist(rows, schema), row_group_size=A_SUBJECT)
    return written


def _subject(subject: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    start = _BEGIN + timedelta(days=int(generator.integers(0, 300)))
    chosen = generator.integers(0, len(_CODES), A_SUBJECT).tolist()
    days = np.sort(generator.random(A_SUBJECT) * 2000).tolist()
    rows: list[dict[str, Any]] = [{"time": None, "code": "GENDER//F"}]
    rows.append({"time": start - timedelta(days=20_000), "code": "MEDS_BIRTH"})
    for place, (kind, day) in enumerate(zip(chosen, days, strict=True)):
        at = start + timedelta(days=day)
        if place % _STAY_EVERY in {0, 20}:
            rows.append({"time": at, "code": "HOSPITAL_ADMISSION//URGENT"})
        if place % _STAY_EVERY in {5, 25}:
            rows.append({"time": at, "code": "HOSPITAL_DISCHARGE//HOME"})
        value = float(generator.normal(100, 10)) if kind < _NUMBERS else None
        rows.append({"time": at, "code": _CODES[kind], "numeric_value": value})
    return [{"subject_id": subject, "numeric_value": None, **row} for row in rows]


def measured(events: int, workers: int, follow_up: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        count = write_dataset(work / "meds", events)
        began, used = time.perf_counter(), _processor_seconds()
        options = CohortOptions(follow_up=follow_up, workers=Workers(workers))
        with MedsDataset(work / "meds") as source:
            cohort = build_cohort(find_definition("readmission_30d"), source, work / "cohort", options)
        seconds, used = time.perf_counter() - began, _processor_seconds() - used
    return {
        "events": count, "rows": len(cohort.rows), "seconds": seconds, "microseconds_an_event": 1e6 * seconds / count,
        "processor_seconds": used, "processor_microseconds_an_event": 1e6 * used / count,
    }  # fmt: skip


def _processor_seconds() -> float:
    """Returns the processor time of this process and of those it has waited for."""
    each = [resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in each)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--follow-up", default="data", choices=["data", "patient", "none"])
    options = parser.parse_args(arguments)
    sizes = [options.events // share for share in (4, 2, 1)]
    steps = [measured(count, options.workers, options.follow_up) for count in sizes]
    growth = [later["processor_seconds"] / before["processor_seconds"] for before, later in pairwise(steps)]
    found = {"workers": options.workers, "follow_up": options.follow_up, "sizes": steps, "growth_for_twice": growth}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "metrics.json").write_bytes(
        orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    whole = steps[-1]
    print(
        f"{whole['events']:,} events in {whole['seconds']:.0f} s on {options.workers} processes; "
        f"{whole['processor_microseconds_an_event']:.1f} µs of processor time an event; "
        f"x {growth[0]:.2f} and x {growth[1]:.2f} for twice as many"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
