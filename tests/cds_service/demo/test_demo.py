"""The simulator without a browser: charts that search like an EHR, dates that move together, folders with bad files."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cds_service.demo.blueprint import render_markdown
from cds_service.demo.timeline import REFERENCE_RANGES, timelines
from cds_service.demo.ward.chart import Chart, ChartError
from cds_service.demo.ward.folder import from_folder
from cds_service.demo.ward.patients import DemoWard, shipped
from cds_service.demo.ward.time_shift import move_text, shift, visible_resources
from fhir_mapping import PatientRecord
from fhir_mapping.core.formatting import format_number
from tests.end_to_end.golden import EXAMPLES

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def ward() -> DemoWard:
    return shipped(NOW)


def resources(case: str) -> list[dict[str, Any]]:
    bundle = json.loads((EXAMPLES / case / "bundle.json").read_text("utf-8"))
    return [entry["resource"] for entry in bundle["entry"]]


def test_a_shift_keeps_intervals_ages_and_values() -> None:
    before = resources("diabetic-heart-failure-discharge")
    after = shift(before, timedelta(days=900, hours=5))
    old = PatientRecord.from_resources(before, encounter_id="stay").features()
    new = PatientRecord.from_resources(after, encounter_id="stay").features()
    for name in ("age.last", "sodium.slope", "inpatient_stay.count_365d", "length_of_stay.last"):
        assert new.number(name) == pytest.approx(old.number(name)), name


def test_dates_in_plain_text_notes_move_too() -> None:
    text = base64.b64encode(b"Seen 2020-03-01, Na 131").decode()
    note = {"content": [{"attachment": {"contentType": "text/plain", "data": text, "size": 23, "hash": "x"}}]}
    moved = shift([note], timedelta(days=31))[0]["content"][0]["attachment"]
    assert base64.b64decode(moved["data"]) == b"Seen 2020-04-01, Na 131"
    assert "hash" not in moved


@pytest.mark.parametrize(("text", "moved"), [("2020", "2021"), ("2020-01", "2021-01"), ("not a date", "not a date")])
def test_partial_dates_move_by_their_middle(text: str, moved: str) -> None:
    assert move_text(text, timedelta(days=366)) == moved


def test_what_is_later_than_now_is_not_in_the_chart() -> None:
    moment = datetime(2024, 2, 11, 3, tzinfo=UTC)
    kept = visible_resources(resources("sepsis-icu-first-day"), moment)
    stay = next(r for r in kept if r["resourceType"] == "Encounter")
    assert "end" not in stay["period"]
    assert stay["status"] == "in-progress"
    assert kept
    assert not any(r.get("effectiveDateTime", "") > "2024-02-11T03:00:01" for r in kept)


def test_a_chart_answers_what_templates_ask_and_refuses_the_rest() -> None:
    chart = Chart(resources("diabetic-heart-failure-discharge"))
    newest = chart.query("Encounter?patient=walter&_sort=-date&_count=1")
    assert newest is not None
    assert newest["total"] == 4
    assert [entry["resource"]["id"] for entry in newest["entry"]] == ["stay"]
    labs = chart.query("Observation?patient=walter&category=laboratory")
    assert labs is not None
    assert labs["total"] == 16
    assert chart.query("Patient/nobody") is None
    assert chart.query("Condition?patient=nobody") == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 0,
        "entry": [],
    }
    with pytest.raises(ChartError, match="status"):
        chart.query("Observation?status=final")


def test_shipped_patients_show_every_path(ward: DemoWard) -> None:
    assert len(ward.patients) >= 8
    records = [
        PatientRecord.from_resources(p.chart.resources, p.id, NOW, encounter_id=p.stay) for p in ward.patients.values()
    ]
    assert any(record.current_stay is None for record in records)
    assert sum(bool(record.current_stay and record.current_stay.intensive_care) for record in records) >= 2
    assert any((record.features().number("age.last") or 0) < 18 for record in records)
    assert sum(bool(record.notes()) for record in records) >= 8


def test_a_folder_with_bad_files_shows_the_good_and_names_the_bad(tmp_path: Path) -> None:
    good = EXAMPLES / "diabetic-heart-failure-discharge" / "bundle.json"
    (tmp_path / "good.json").write_bytes(good.read_bytes())
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "empty.json").write_text('{"resourceType": "Bundle", "entry": []}')
    (tmp_path / "cut.json.gz").write_bytes(b"\x1f\x8b\x08\x00garbage")
    ward = from_folder(tmp_path, NOW)
    assert list(ward.patients) == ["walter"]
    assert sorted(name for name, _ in ward.refused) == ["broken.json", "cut.json.gz", "empty.json"]


def test_synthea_folders_load_whole(shared_data: Path) -> None:
    ward = from_folder(shared_data / "synthea", NOW)
    assert len(ward.patients) == 12
    assert ward.refused == ()


def test_markdown_shows_raw_html_instead_of_running_it() -> None:
    page = render_markdown(
        "<script>x()</script>\n\n![p](http://evil.example/p.png)\n\n[a](https://pubmed.ncbi.nlm.nih.gov/1/)"
    )
    assert "<script" not in page
    assert "<img" not in page
    assert 'rel="noopener noreferrer"' in page


def test_a_bulk_data_export_becomes_a_ward_and_its_broken_lines_are_named(tmp_path: Path) -> None:
    """Inpatients come first; a line that is no resource is named with its number, and the rest is kept."""
    patients = [{"resourceType": "Patient", "id": name, "birthDate": "1950-01-01"} for name in ("p1", "p2")]
    stay = {
        "resourceType": "Encounter", "id": "e1", "status": "finished", "class": {"code": "IMP"},
        "subject": {"reference": "Patient/p2"},
        "period": {"start": "2024-01-01T08:00:00Z", "end": "2024-01-03T08:00:00Z"},
    }  # fmt: skip
    (tmp_path / "Patient.ndjson").write_text("\n".join(map(json.dumps, patients)) + "\nnot json\n")
    (tmp_path / "Encounter.ndjson").write_text(json.dumps(stay) + "\n")
    ward = from_folder(tmp_path, NOW)
    assert list(ward.patients) == ["p2"]
    assert ("Patient.ndjson", "no FHIR resource in line 3") in ward.refused
    assert any(source == "Patient/p1" for source, _ in ward.refused)


@pytest.mark.parametrize("family", ["Rogers", "McDonald", "Mason", "Mendoza"])
def test_the_timeline_holds_every_mark_within_its_lane(ward: DemoWard, family: str) -> None:
    """Sepsis, COPD, a newborn, and a patient who is not in hospital: nothing is drawn outside, above what is said."""
    patient = next(p for p in ward.patients.values() if p.name.startswith(family))
    record = PatientRecord.from_resources(patient.chart.resources, patient.id, NOW, encounter_id=patient.stay)
    drawn = timelines(record)
    assert [picture.narrow for picture in drawn] == [False, True]
    for picture in drawn:
        assert (picture.stay is None) is (record.current_stay is None)
        for lane in picture.lanes:
            assert all(
                picture.left <= mark.x <= picture.width and lane.y <= mark.y <= lane.y + 30 for mark in lane.marks
            )
            assert lane.says.startswith(lane.label)
        assert all(picture.left <= event.x <= picture.width for lane in picture.events for event in lane.events)
        assert picture.lanes[-1].y + 30 < picture.height
        places = [x for x, _ in picture.ticks]
        assert places == sorted(places)
        assert len(places) <= 6


def test_a_value_is_high_or_low_only_where_there_is_a_range_for_the_patient(ward: DemoWard) -> None:
    """Adult ranges say nothing of a newborn, whose heart beats faster."""
    for family, ranged in (("Rogers", True), ("Mason", False)):
        patient = next(p for p in ward.patients.values() if p.name.startswith(family))
        record = PatientRecord.from_resources(patient.chart.resources, patient.id, NOW, encounter_id=patient.stay)
        lanes = {lane.label: lane for lane in timelines(record)[0].lanes}
        rate = lanes["Heart rate"]
        assert (rate.band is not None) is ranged
        low, high = REFERENCE_RANGES["heart_rate"]
        reported = [float(mark.says.split(": ")[1].split()[0]) for mark in rate.marks]
        kinds = (
            ["high" if v > high else "low" if v < low else "normal" for v in reported]
            if ranged
            else ["plain"] * len(reported)
        )
        assert [mark.kind for mark in rate.marks] == kinds


def test_a_long_series_is_thinned_over_its_whole_time(ward: DemoWard) -> None:
    patient = next(p for p in ward.patients.values() if p.name.startswith("McDonald"))
    record = PatientRecord.from_resources(patient.chart.resources, patient.id, NOW, encounter_id=patient.stay)
    picture = timelines(record)[0]
    stay = record.current_stay
    assert stay is not None
    rates = [m for m in record.measurements if m.concept == "heart_rate" and m.time >= stay.start]
    lane = next(lane for lane in picture.lanes if lane.label == "Heart rate")
    assert len(rates) > len(lane.marks) > 30
    assert f"{len(rates)} values" in lane.says
    reported = {float(mark.says.split(": ")[1].split()[0]) for mark in lane.marks}
    assert {float(format_number(extreme(m.value for m in rates))) for extreme in (min, max)} <= reported
    shown = lane.marks[-1].x - lane.marks[0].x
    whole = (picture.width - picture.left) * (rates[-1].time - rates[0].time) / (NOW - stay.start)
    assert shown == pytest.approx(whole, rel=0.05)


def test_the_values_furthest_from_the_reference_range_are_shown(ward: DemoWard) -> None:
    patient = next(p for p in ward.patients.values() if p.name.startswith("Rogers"))
    record = PatientRecord.from_resources(patient.chart.resources, patient.id, NOW, encounter_id=patient.stay)
    assert {"Creatinine", "Blood urea nitrogen", "Lactate"} <= {lane.label for lane in timelines(record)[0].lanes}
