"""Labels by task files of ACES against ACES itself, task by task and row by row.

    python -m benchmarks.aces_labels --tasks DIR --predicates FILE [--meds DIR] [--name NAME]

DIR holds task files, such as those of a checkout of MEDS-DEV (`src/MEDS_DEV/tasks`), FILE the predicates of the data,
such as `datasets/MIMIC-IV/predicates.yaml`. Without `--meds` they are generated: 400 subjects with codes of MIMIC-IV
in MEDS, stays that touch and overlap, measurements at the edges of windows and ranges. ACES is `pip install es-aces`;
without it only our own labels are counted. The result of NAME is added to `benchmarks/results/aces_labels.json`.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.measuring import write
from risk_model.cohorts import MedsDataset
from risk_model.core.errors import TaskDefinitionError
from risk_model.labels import AcesLabels, AcesTask

RESULT = Path(__file__).parent / "results" / "aces_labels.json"
SUBJECTS = 400
_LABS = {
    "LAB//50912//mg/dL": (0.4, 2.2), "LAB//50983//mEq/L": (128, 140), "LAB//50882//mEq/L": (18, 30),
    "LAB//50811//g/dL": (9, 17), "LAB//51300//K/uL": (4, 16), "LAB//51265//K/uL": (90, 300),
    "LAB//220052//mmHg": (55, 90),
}  # fmt: skip
_EDGES = {"LAB//50912//mg/dL": 1.3, "LAB//50983//mEq/L": 135.0}
Event = tuple[datetime, str, float | None]
Row = tuple[str, str, int]


def generated(folder: Path) -> Path:
    """A MEDS dataset of random stays, the same each time."""
    import pyarrow
    import pyarrow.parquet as parquet

    generator = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    for subject in range(1, SUBJECTS + 1):
        static = [
            f"GENDER//{'MF'[int(generator.integers(2))]}",
            f"SEX//{['male', 'female'][int(generator.integers(2))]}",
        ]
        rows += [{"subject_id": subject, "time": None, "code": code, "numeric_value": None} for code in static]
        events = sorted(_events(generator), key=lambda event: event[0])
        rows += [{"subject_id": subject, "time": at, "code": code, "numeric_value": v} for at, code, v in events]
    (folder / "data").mkdir(parents=True)
    kinds = [("subject_id", pyarrow.int64()), ("time", pyarrow.timestamp("us")), ("code", pyarrow.string())]
    schema = pyarrow.schema([*kinds, ("numeric_value", pyarrow.float32())])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), folder / "data" / "0.parquet")
    return folder


def _events(generator: np.random.Generator) -> list[Event]:
    def hours(*choices: int) -> timedelta:
        return timedelta(hours=int(generator.choice(choices)))

    at = datetime(2100, 1, 1) + timedelta(hours=int(generator.integers(5000)))  # noqa: DTZ001 - MEDS times have no zone
    found: list[Event] = [(at.replace(year=2100 - int(generator.integers(10, 80)), day=1), "MEDS_BIRTH", None)]
    for _ in range(int(generator.integers(1, 5))):
        length = hours(12, 24, 36, 48, 60, 72, 120, 200)
        found.append((at, "HOSPITAL_ADMISSION//URGENT", None))
        if generator.random() < 0.3:
            found.append((at, "ED_REGISTRATION//x", None))
        if generator.random() < 0.5:
            moved = at + timedelta(hours=int(generator.integers(6)))
            found += [
                (moved, "ICU_ADMISSION//MICU", None),
                (moved + hours(12, 24, 48, 72, 96), "ICU_DISCHARGE//MICU", None),
            ]
        for _ in range(int(generator.integers(5))):
            code = list(_LABS)[int(generator.integers(len(_LABS)))]
            value: float | None = round(float(generator.uniform(*_LABS[code])), 1)
            value = _EDGES.get(code, value) if generator.random() < 0.2 else value if generator.random() < 0.9 else None
            found.append((at + min(hours(0, 6, 12, 24, 30, 36, 48), length), code, value))
        for _ in range(int(generator.random() < 0.3)):
            found.append((at + timedelta(hours=int(generator.integers(24))), "DIAGNOSIS//ICD//10//I214", None))
        died = generator.random() < 0.12
        if generator.random() < 0.95:
            found.append((at + length, f"HOSPITAL_DISCHARGE//{'DIED' if died else 'HOME'}", None))
        if died:
            return [*found, (at + length, "MEDS_DEATH", None)]
        at += length + hours(0, 1, 24, 300, 720, 721, 9000, 50000)
    return found


def ours(task: Path, predicates: Path, meds: Path) -> tuple[list[Row], AcesLabels]:
    labels = AcesLabels(AcesTask.open(task, predicates))
    found = [label for subject, rows in MedsDataset(meds).subjects() for label in labels.of(subject, rows)]
    return sorted((x.subject_id, x.prediction_time.isoformat(), int(x.label)) for x in found), labels


def theirs(task: Path, predicates: Path, meds: Path) -> list[Row] | None:
    """The labels of ACES; None where it is not installed."""
    if importlib.util.find_spec("aces") is None:
        return None
    from aces import config, query  # type: ignore[import-not-found]
    from aces.predicates import get_predicates_df  # type: ignore[import-not-found]
    from omegaconf import OmegaConf

    asked = config.TaskExtractorConfig.load(task, predicates)
    (file,) = (meds / "data").rglob("*.parquet")
    table = get_predicates_df(asked, OmegaConf.create({"path": str(file), "standard": "meds", "ts_format": None}))
    rows = query.query(asked, table)
    if "label" not in rows.columns:
        return []
    chosen = rows.select("subject_id", "index_timestamp", "label").to_dicts()
    return sorted((str(r["subject_id"]), r["index_timestamp"].isoformat(), int(r["label"] > 0)) for r in chosen)


def compared(task: Path, predicates: Path, meds: Path) -> dict[str, Any]:
    try:
        rows, labels = ours(task, predicates, meds)
    except TaskDefinitionError as error:
        return {"refused": str(error).rpartition(": ")[2]}
    found: dict[str, Any] = {
        "triggers": labels.triggers, "labels": len(rows), "positive": sum(row[2] for row in rows),
    }  # fmt: skip
    other = theirs(task, predicates, meds)
    if other is not None:
        found |= {"aces": len(other), "equal": rows == other}
        found |= (
            {}
            if rows == other
            else {"only_ours": len(set(rows) - set(other)), "only_aces": len(set(other) - set(rows))}
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, required=True, help="a folder of task files")
    parser.add_argument("--predicates", type=Path, required=True, help="the predicates file of the data")
    parser.add_argument("--meds", type=Path, help="a MEDS dataset; without it one is generated")
    parser.add_argument("--name", default="generated", help="the name of the data in the result")
    options = parser.parse_args()
    result = orjson.loads(RESULT.read_bytes()) if RESULT.exists() else {}
    files = sorted(options.tasks.rglob("*.yaml"))
    with tempfile.TemporaryDirectory() as scratch:
        meds = options.meds or generated(Path(scratch) / "meds")
        names = (str(file.relative_to(options.tasks).with_suffix("")) for file in files)
        result[options.name] = {
            name: compared(file, options.predicates, meds) for name, file in zip(names, files, strict=True)
        }
    write(RESULT, result)


if __name__ == "__main__":
    main()
