"""Compares cohorts from FHIR with cohorts from the MEDS export of the same data, row by row and input by input.

`python -m benchmarks.meds_round_trip --fhir FOLDER --out FOLDER [--zone ZONE]` builds each cohort twice and writes
metrics.json: rows of each source, rows that agree (patient, encounter, prediction time, label, level), and of the
features and model inputs of these rows those that agree within float32, by name where they do not; or why there is no
cohort, such as one class only. Exit code 1 if a row differs.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from fhir_mapping import PatientRecord
from fhir_mapping.bulk import MedsWriter, partition_by_patient, subject_number
from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, LabelledCohort
from risk_model.cohorts import CohortOptions, FhirFolder, MedsDataset, build_cohort
from risk_model.core.errors import CohortError
from risk_model.features.inputs import input_names
from risk_model.features.inputs import row as input_row
from risk_model.features.stay_medications import STAY_MEDICATIONS
from risk_model.labels import find_definition
from risk_model.labels.task_definitions import TaskDefinition

TASKS = (
    ("readmission_30d", "any-inpatient-30d"),
    ("in_hospital_mortality", "in-hospital-death"),
    ("long_stay", "ehrshot"),
    ("icu_transfer", "ehrshot"),
)
_LAST_DIGIT = 2e-6
"""Features are rounded to six decimals: float32 may move the last by one."""
Key = tuple[str, str | None, str]
Values = Mapping[str, float | str | None]


def export(folder: Path, out: Path, work: Path) -> None:
    """Writes the MEDS dataset of a FHIR folder, as `riskcards map FOLDER --to meds` does."""
    found = partition_by_patient(folder, work)
    with MedsWriter(out, created_at=datetime.now(UTC)) as dataset:
        for record in found.patients():
            if isinstance(record, PatientRecord):
                dataset.add(record)


def compared(fhir: Path, meds: Path, work: Path, task: str, definition: str) -> dict[str, Any]:
    """Returns how far the two cohorts of one definition agree."""
    chosen, options = find_definition(task, definition), CohortOptions(follow_up="none")
    with FhirFolder(fhir) as source:
        left = _built(chosen, source, work / "fhir", options)
    with MedsDataset(meds) as dataset:
        right = _built(chosen, dataset, work / "meds", options)
    if isinstance(left, str) or isinstance(right, str):
        return {"no_cohort_fhir": _why(left), "no_cohort_meds": _why(right)}
    rows, others = _rows(left), _rows(right)
    same = {key for key, answer in rows.items() if others.get(key) == answer}
    return {
        "rows_fhir": len(rows),
        "rows_meds": len(others),
        "rows_equal": len(same),
        "excluded_fhir": left.manifest["excluded"],
        "excluded_meds": right.manifest["excluded"],
        **_agreement("features", _values(left, same, _features), _values(right, same, _features)),
        **_agreement("inputs", _values(left, same, _inputs), _values(right, same, _inputs)),
    }


def _agreement(title: str, left: Mapping[Key, Values], right: Mapping[Key, Values]) -> dict[str, Any]:
    """Returns how many values there are, how many agree, and the names of the others."""
    differing: Counter[str] = Counter()
    total = 0
    for key, expected in left.items():
        for name in expected.keys() | right[key].keys():
            total += 1
            differing[name] += not _equal(expected.get(name), right[key].get(name))
    return {
        title: total,
        f"{title}_equal": total - differing.total(),
        f"{title}_differing": {name: number for name, number in differing.most_common() if number},
    }


def _built(task: TaskDefinition, source: Any, out: Path, options: CohortOptions) -> LabelledCohort | str:
    """Returns the cohort, or why it cannot be used for training."""
    try:
        return build_cohort(task, source, out, options)
    except CohortError as error:
        return str(error)


def _why(built: LabelledCohort | str) -> str | None:
    return built if isinstance(built, str) else None


def _agrees(item: Mapping[str, Any]) -> bool:
    """Whether both sources give the same rows, or the same reason for none."""
    if "no_cohort_fhir" in item:
        return bool(item["no_cohort_fhir"] == item["no_cohort_meds"])
    return bool(item["rows_equal"] == max(item["rows_fhir"], item["rows_meds"]))


def _rows(cohort: LabelledCohort) -> dict[Key, tuple[int, str | None]]:
    return {
        (_number(row.subject_id), row.encounter_id, row.prediction_time.isoformat()): (row.label, row.level)
        for row in cohort.rows
    }


def _number(subject: str) -> str:
    return subject if subject.isdigit() and len(subject) > 15 else str(subject_number(subject))


def _values(cohort: LabelledCohort, wanted: set[Key], read: Callable[[PatientRecord], Values]) -> dict[Key, Values]:
    found = {}
    for row, record in cohort.records():
        key = (_number(row.subject_id), row.encounter_id, row.prediction_time.isoformat())
        if key in wanted:
            found[key] = read(record)
    return found


def _features(record: PatientRecord) -> Values:
    return {name: item["value"] for name, item in record.features().to_json()["features"].items()}


def _inputs(record: PatientRecord) -> Values:
    """Returns the known inputs of the shipped tasks and of a site's own models."""
    names = dict.fromkeys((*input_names(READMISSION_30D), *input_names(IN_HOSPITAL_MORTALITY), *STAY_MEDICATIONS))
    values = dict(zip(names, input_row(record, list(names)).tolist(), strict=True))
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _equal(one: float | str | None, other: float | str | None) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-5, abs_tol=_LAST_DIGIT)
    return one == other


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fhir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        export(options.fhir, work / "meds", work / "buckets")
        for task, definition in TASKS:
            folder = work / f"{task}-{definition}"
            folder.mkdir()
            found[f"{task}/{definition}"] = compared(options.fhir, work / "meds", folder, task, definition)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "metrics.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    for title, item in found.items():
        if "no_cohort_fhir" in item:
            print(f"{title:<50}no cohort from {'either' if _agrees(item) else 'one'}: {item['no_cohort_fhir']}")
            continue
        print(
            f"{title:<50}{item['rows_equal']} of {item['rows_fhir']} rows; "
            f"{item['features_equal']:,} of {item['features']:,} features; "
            f"{item['inputs_equal']:,} of {item['inputs']:,} inputs"
        )
    return int(not all(map(_agrees, found.values())))


if __name__ == "__main__":
    sys.exit(main())
