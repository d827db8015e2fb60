"""Invented rows of the two open tables keep their values through FHIR."""

from __future__ import annotations

import csv
from datetime import timedelta
from pathlib import Path

from benchmarks import cinc_fhir, diabetes_fhir, readme
from fhir_mapping import PatientRecord
from fhir_mapping.record.problem_list import active_groups
from risk_model.features.stay_history import history

ROWS = """RecordID,Time,Parameter,Value
1,00:00,RecordID,1
1,00:00,Age,70
1,00:00,Gender,-1
1,00:00,Height,-1
1,00:07,HR,73
1,01:00,FiO2,0.5
1,02:00,Na,140
1,02:00,NISysABP,120
1,03:00,MechVent,1
1,47:00,Na,133
2,00:00,RecordID,2
2,00:00,Age,50
"""


def test_an_icu_stay_keeps_its_values_through_fhir(tmp_path: Path) -> None:
    file = tmp_path / "set.csv"
    file.write_text(ROWS)
    first, second = cinc_fhir.read_stays(file)
    assert (first.record_id, second.record_id) == ("1", "2")
    at = cinc_fhir.ADMISSION + timedelta(hours=24)
    features = PatientRecord.from_resources(cinc_fhir.to_fhir(first), prediction_time=at).features()
    assert features.number("age.last") == 70
    assert features.word("sex.last") is None
    assert features.number("height.last") is None
    assert features.number("sodium.last") == 140
    assert features.number("fio2.last") == 50
    assert features.number("systolic_bp.last") == 120
    assert features.number("mechanical_ventilation.last") == 1
    assert features.number("intensive_care.last") == 1


def test_a_diabetic_encounter_keeps_its_values_through_fhir() -> None:
    row = dict.fromkeys(diabetes_fhir.DRUGS, "No") | {
        "encounter_id": "9", "patient_nbr": "7", "race": "?", "gender": "Female", "age": "[70-80)", "insulin": "Steady",
        "admission_type_id": "1", "discharge_disposition_id": "3", "time_in_hospital": "6", "num_procedures": "2",
        "num_medications": "5", "number_outpatient": "0", "number_emergency": "1", "number_inpatient": "2",
        "diag_1": "428", "diag_2": "250.4", "diag_3": "?", "number_diagnoses": "4", "readmitted": "<30",
    }  # fmt: skip
    assert diabetes_fhir.eligible(row)
    assert not diabetes_fhir.eligible(row | {"discharge_disposition_id": "11"})
    record = PatientRecord.from_resources(
        diabetes_fhir.to_fhir(row), prediction_time=diabetes_fhir.DISCHARGE, encounter_id="stay-9"
    )
    features = record.features()
    assert features.number("age.last") == 75
    assert features.number("length_of_stay.last") == 6
    assert features.number("inpatient_stay.count_365d") == 2
    assert features.number("emergency_visit.count_365d") == 1
    assert features.number("medication.count") == 5
    assert features.number("procedure.count") == 2
    assert {"heart_failure", "diabetes", "diabetes_end_organ"} <= set(active_groups(record))
    assert record.current_stay is not None
    assert record.current_stay.discharge_disposition == "03"


def earlier_row(encounter_id: str, readmitted: str, days: str = "3") -> dict[str, str]:
    return dict.fromkeys(diabetes_fhir.DRUGS, "No") | {
        "encounter_id": encounter_id, "patient_nbr": "7", "race": "?", "gender": "Female", "age": "[70-80)",
        "admission_type_id": "1", "admission_source_id": "7", "discharge_disposition_id": "1", "time_in_hospital": days,
        "num_procedures": "0", "num_medications": "5", "number_outpatient": "0", "number_emergency": "0",
        "number_inpatient": "0", "diag_1": "428", "diag_2": "?", "diag_3": "?", "number_diagnoses": "1",
        "readmitted": readmitted,
    }  # fmt: skip


def test_earlier_rows_become_earlier_stays_of_the_same_patient() -> None:
    first, second = earlier_row("1", ">30"), earlier_row("2", "<30", "5")
    present = earlier_row("3", "NO") | {"number_inpatient": "3"}
    record = PatientRecord.from_resources(
        diabetes_fhir.to_fhir(present, (first, second)),
        prediction_time=diabetes_fhir.DISCHARGE,
        encounter_id="stay-3",
    )
    assert record.features().number("inpatient_stay.count_365d") == 3  # two of them rows, one only counted
    known = history(record)
    assert (known["earlier_stay.count"], known["earlier_stay.within_30d"]) == (3, 1)
    assert (known["earlier_stay.length"], known["earlier_stay.same_reason"]) == (5, 1)


def test_what_the_last_earlier_row_counts_lies_outside_the_present_year() -> None:
    last = earlier_row("2", "<30") | {"number_inpatient": "4"}
    present = earlier_row("3", "NO") | {"number_inpatient": "2"}
    record = PatientRecord.from_resources(
        diabetes_fhir.to_fhir(present, (last,)), prediction_time=diabetes_fhir.DISCHARGE, encounter_id="stay-3"
    )
    assert record.features().number("inpatient_stay.count_365d") == 2
    assert history(record)["earlier_stay.before_last_365d"] == 4


def test_the_outcome_of_the_present_row_is_in_no_resource() -> None:
    earlier = (earlier_row("1", ">30"),)
    early, never = (diabetes_fhir.to_fhir(earlier_row("2", word), earlier) for word in ("<30", "NO"))
    assert early == never


def test_only_earlier_rows_of_the_same_patient_come_before_a_row(tmp_path: Path) -> None:
    rows = [earlier_row("12", "NO"), earlier_row("3", "<30"), earlier_row("5", "NO") | {"patient_nbr": "8"}]
    file = tmp_path / "table.csv"
    with file.open("w") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = {item.row["encounter_id"]: len(item.earlier) for item in diabetes_fhir.read_admissions(file)}
    assert found == {"12": 1, "3": 0, "5": 0}


def test_readme_and_guide_hold_the_measured_figures() -> None:
    assert readme.render() in (readme.ROOT / "docs" / "measured.md").read_text("utf-8")
    assert readme.render_numbers() in (readme.ROOT / "README.md").read_text("utf-8")
