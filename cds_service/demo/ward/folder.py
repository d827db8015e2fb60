"""`--patients DIR`: the charts of a folder; Synthea bundles, and Bulk Data NDJSON. Unusable files are listed."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from cds_service.demo.ward.patients import DemoPatient, DemoWard, as_of_now, check
from fhir_mapping import FhirMappingError, InvalidInputError
from fhir_mapping.parsing import Resource, read_bytes

MAX_PATIENTS = 60
MAX_FILE = 64 * 2**20
MAX_LINE = 8 * 2**20
_BUNDLES = (".json", ".json.gz")
_LINES = (".ndjson", ".ndjson.gz")
# Of a Bulk Data export only what the service reads is kept; `Location` has no patient and is shared by stays.
_READ = frozenset(
    {"Patient", "Encounter", "Condition", "Observation", "MedicationRequest", "Procedure", "DocumentReference",
     "Composition", "DiagnosticReport", "Location"}
)  # fmt: skip

# Errors of files that are JSON but not valid FHIR: the file is listed and the ward still opens.
_NOT_FHIR = (KeyError, TypeError, AttributeError, IndexError)

Refused = list[tuple[str, str]]


def from_folder(folder: Path, now: datetime | None = None) -> DemoWard:
    """Every patient of a folder and its subfolders, at most 60; a file or line that is not FHIR is listed.

    `.json` and `.json.gz` files are bundles of one patient each, as Synthea writes them (files without a Patient,
    such as its hospital and practitioner files, are named too). `.ndjson` files of one folder are one Bulk Data export.
    """
    refused: Refused = []
    patients: dict[str, DemoPatient] = {}
    for patient in _patients(folder, refused, now):
        try:
            check(patient)
        except FhirMappingError as error:
            refused.append((patient.story, str(error)[:200]))
            continue
        if patient.id in patients:
            refused.append((patient.story, f"Patient/{patient.id} is in another file already"))
        elif len(patients) == MAX_PATIENTS:
            refused.append((folder.name, f"only the first {MAX_PATIENTS} patients are shown"))
            break
        else:
            patients[patient.id] = patient
    if not patients and not refused:
        refused.append((str(folder), f"no {', '.join(_BUNDLES + _LINES)} file here"))
    return DemoWard(patients, tuple(refused), f"patients of {folder.name}")


def _patients(folder: Path, refused: Refused, now: datetime | None) -> Iterator[DemoPatient]:
    exports: dict[Path, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name.endswith(_LINES):
            exports.setdefault(path.parent, []).append(path)
        elif path.name.endswith(_BUNDLES):
            yield from _bundle(path, refused, now)
    for paths in exports.values():
        yield from _export(paths, refused, now)


def _bundle(path: Path, refused: Refused, now: datetime | None) -> Iterator[DemoPatient]:
    try:
        yield as_of_now(_read(path), f"From {path.name}.", "your folder", "end", now)
    except (InvalidInputError, ValueError, OSError, EOFError) as error:
        refused.append((path.name, str(error)[:200]))
    except _NOT_FHIR as error:
        refused.append((path.name, f"not FHIR R4 as we know it ({error.__class__.__name__})"))


def _open(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _read(path: Path) -> Resource:
    with _open(path) as stream:
        raw = stream.read(MAX_FILE + 1)
    if len(raw) > MAX_FILE:
        raise InvalidInputError(f"larger than {MAX_FILE // 2**20} MiB")
    reading = read_bytes(raw)
    if not any(entry.resource["resourceType"] == "Patient" for entry in reading.entries):
        raise InvalidInputError("no Patient in it")
    return {
        "resourceType": "Bundle",
        "entry": [{"resource": e.resource, **({"fullUrl": e.full_url} if e.full_url else {})} for e in reading.entries],
    }


def _export(paths: list[Path], refused: Refused, now: datetime | None) -> Iterator[DemoPatient]:
    """Reads an export twice to limit memory: first to choose patients, then to read their resources."""
    chosen = _chosen(_lines(paths, []))
    charts: dict[str, list[Resource]] = {patient: [] for patient in chosen}
    places: list[Resource] = []
    for resource in _lines(paths, refused):
        if resource["resourceType"] == "Location":
            places.append(resource)
        elif (patient := _patient_of(resource)) in charts:
            charts[patient].append(resource)
    for patient, resources in charts.items():
        entries = [{"resource": resource} for resource in resources + _places_of(resources, places)]
        try:
            yield as_of_now({"entry": entries}, f"From {paths[0].parent.name}.", "your folder", "end", now)
        except (InvalidInputError, ValueError) as error:
            refused.append((f"Patient/{patient}", str(error)[:200]))
        except _NOT_FHIR as error:
            refused.append((f"Patient/{patient}", f"not FHIR R4 as we know it ({error.__class__.__name__})"))


def _chosen(resources: Iterable[Resource]) -> list[str]:
    """At most 60 patients, inpatients first: outpatients have no estimate to show."""
    stays: dict[str, int] = {}
    for resource in resources:
        if resource["resourceType"] == "Patient":
            stays.setdefault(_patient_of(resource), 0)
        elif resource["resourceType"] == "Encounter":
            kind = resource.get("class")
            inpatient = isinstance(kind, dict) and kind.get("code") in {"IMP", "ACUTE", "NONAC"}
            stays[_patient_of(resource)] = stays.get(_patient_of(resource), 0) + inpatient
    stays.pop("", None)
    return sorted(stays, key=lambda patient: -stays[patient])[:MAX_PATIENTS]


def _lines(paths: list[Path], refused: Refused) -> Iterator[Resource]:
    for path in paths:
        try:
            with _open(path) as stream:
                yield from _resources(stream, path.name, refused)
        except (OSError, EOFError) as error:
            refused.append((path.name, str(error)[:200]))


def _resources(stream: Iterable[bytes], name: str, refused: Refused) -> Iterator[Resource]:
    broken: list[int] = []
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line) if len(line) <= MAX_LINE else None
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
            broken.append(number)
        elif value["resourceType"] in _READ:
            yield value
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        refused.append((name, f"no FHIR resource in line {', '.join(map(str, broken[:5]))}{more}"))


def _patient_of(resource: Resource) -> str:
    """The patient's id, or empty if the resource has none."""
    if resource["resourceType"] == "Patient":
        return str(resource.get("id", ""))
    subject = resource.get("subject") or resource.get("patient")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    kind, _, identifier = str(reference or "").rpartition("/")
    return identifier if kind.rpartition("/")[2] == "Patient" else ""


def _places_of(resources: Iterable[Resource], places: list[Resource]) -> list[Resource]:
    """The Locations of these stays and their parents: a bed is in a ward."""
    by_key = {f"Location/{place.get('id')}": place for place in places}
    found: dict[str, Resource] = {}
    waiting = [
        place.get("location")
        for resource in resources
        if resource["resourceType"] == "Encounter"
        for place in resource.get("location") or []
    ]
    while waiting:
        reference = waiting.pop()
        key = reference.get("reference") if isinstance(reference, dict) else None
        if isinstance(key, str) and key in by_key and key not in found:
            found[key] = by_key[key]
            waiting.append(by_key[key].get("partOf"))
    return list(found.values())
