"""The demo's patients: charts whose last inpatient stay is made current. `folder.py` reads other charts."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

from cds_service.demo.ward.chart import Chart
from cds_service.demo.ward.time_shift import shift, visible_resources
from fhir_mapping import PatientRecord
from fhir_mapping.core import parse_instant
from fhir_mapping.parsing import Resource


@dataclass(frozen=True, slots=True)
class DemoPatient:
    """A chart as of now. `story` describes the case; `stay` is the current inpatient stay's id, if there is one.

    Charts are kept packed: a ward of parsed ones would be most of the process's memory.
    """

    id: str
    name: str
    story: str
    source: str
    packed: bytes
    stay: str | None

    @property
    def chart(self) -> Chart:
        return _unpacked(self.packed)


@lru_cache(maxsize=2)
def _unpacked(packed: bytes) -> Chart:
    return Chart.ready(orjson.loads(zlib.decompress(packed)))


@dataclass(frozen=True, slots=True)
class DemoWard:
    """Patients in order, and the unusable charts with reasons. `source` appears in the page header."""

    patients: Mapping[str, DemoPatient]
    refused: tuple[tuple[str, str], ...] = ()
    source: str = "synthetic patients"


def shipped(now: datetime | None = None) -> DemoWard:
    """The patients that come with riskcards."""
    folder = Path(str(files("cds_service.demo").joinpath("patients")))
    index = json.loads((folder / "patients.json").read_text("utf-8"))
    patients = []
    for entry in index["patients"]:
        with gzip.open(folder / f"{entry['file']}.json.gz") as stream:
            bundle = json.load(stream)
        patients.append(as_of_now(bundle, entry["story"], entry["source"], entry["moment"], now))
    return DemoWard({patient.id: patient for patient in patients})


def as_of_now(bundle: Resource, story: str, source: str, moment: str, now: datetime | None) -> DemoPatient:
    """Shift so that the last inpatient stay is current: at its end (about to go home) or after its first day.

    Raises ChartError without a Patient, ValueError where nothing in the chart has a time.
    """
    chart = Chart.from_bundle(bundle)
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    anchor = anchor_of(chart.resources, moment)
    return _patient(visible_resources(shift(chart.resources, now - anchor), now), story, source)


def as_it_is(bundle: Resource, story: str, source: str, now: datetime) -> DemoPatient:
    """Not moved in time: for a chart whose stay is running. Raises ChartError without a Patient."""
    return _patient(visible_resources(Chart.from_bundle(bundle).resources, now), story, source)


def check(patient: DemoPatient) -> None:
    """Raises FhirMappingError for an unusable chart, such as one with another patient's data."""
    PatientRecord.from_resources(patient.chart.resources, patient.id, datetime.now(UTC), encounter_id=patient.stay)


def running_since(resources: Iterable[Resource]) -> datetime | None:
    """The start of the newest open inpatient stay."""
    begun = [_period(r) for r in resources if r.get("resourceType") == "Encounter" and _inpatient(r)]
    return max((start for start, end in begun if start is not None and end is None), default=None)


def _patient(resources: list[Resource], story: str, source: str) -> DemoPatient:
    current = Chart(resources)
    return DemoPatient(
        id=str(current.patient["id"]),
        name=_name(current.patient),
        story=story,
        source=source,
        packed=zlib.compress(orjson.dumps(current.resources), 1),
        stay=_stay(resources),
    )


def anchor_of(resources: Iterable[Resource], moment: str) -> datetime:
    """The instant of the chart that becomes now."""
    listed = list(resources)
    stays = [_period(r) for r in listed if r.get("resourceType") == "Encounter" and _inpatient(r)]
    begun = [(start, end) for start, end in stays if start is not None]
    if begun:
        start, end = max(begun, key=lambda stay: stay[0])
        day = start + timedelta(hours=24)
        if moment == "first-day" or end is None:
            return day if end is None else min(day, end)
        # A minute before the end the patient is still here, and everything of the stay is known.
        return max(start, end - timedelta(minutes=1))
    periods = [_period(r) for r in listed if r.get("resourceType") == "Encounter"]
    ends = [moment for period in periods for moment in period if moment is not None]
    if not ends:
        raise ValueError("the chart has no encounter with a time")
    return max(ends) + timedelta(hours=1)


def _inpatient(encounter: Resource) -> bool:
    kind = encounter.get("class")
    return isinstance(kind, dict) and kind.get("code") in {"IMP", "ACUTE", "NONAC"}


def _period(encounter: Resource) -> tuple[datetime | None, datetime | None]:
    period = encounter.get("period") or {}
    start, end = parse_instant(period.get("start")), parse_instant(period.get("end"))
    return start.earliest if start else None, end.latest if end else None


def _stay(resources: Iterable[Resource]) -> str | None:
    running = [r for r in resources if r.get("resourceType") == "Encounter" and _inpatient(r) and not _period(r)[1]]
    running.sort(key=lambda r: str(_period(r)[0]))
    return str(running[-1]["id"]) if running else None


def _name(patient: Mapping[str, Any]) -> str:
    """`Family, Given`, without the digits Synthea puts behind its names."""
    names = patient.get("name") or [{}]
    chosen = next((name for name in names if name.get("use") == "official"), names[0])
    given = " ".join(chosen.get("given") or [])
    words = f"{chosen.get('family', '')}, {given}".strip(", ") or str(patient["id"])
    return "".join(letter for letter in words if not letter.isdigit()).strip()
