"""What notes state counts as a measurement: with its note and time, once, and only what is this patient's now."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fhir_mapping import PatientRecord
from knowledge_index import KnowledgeIndex
from risk_model.core.values import NoteFindings
from risk_model.features.inputs import can_be_computed, concept_of, sources
from risk_model.features.note_measurements import NOTED, noted_names, with_note_values
from risk_model.first_stage import fusion
from risk_model.first_stage.training_rows import TrainingRows
from risk_model.notes.rule_reader import RuleNoteReader
from risk_model.training.gradient_boosting import fit
from tests.fhir_mapping.record.test_cases import AT, PATIENT, Resource, observation
from tests.risk_model.simulated import NAMES, QUICK, simulated
from tests.risk_model.training.test_gradient_boosting import written

START = AT - timedelta(hours=40)
READER = RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)
STAY: Resource = {
    "resourceType": "Encounter",
    "id": "stay",
    "status": "in-progress",
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
    "subject": {"reference": "Patient/p"},
    "period": {"start": START.isoformat()},
}


def note(hour: float, text: str) -> Resource:
    return {
        "resourceType": "DocumentReference",
        "id": f"n{hour:g}",
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]},
        "subject": {"reference": "Patient/p"},
        "date": (START + timedelta(hours=hour)).isoformat(),
        "content": [{"attachment": {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}}],
    }


def lab(hour: float, code: str, value: float, unit: str) -> Resource:
    quantity = {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    coded = {"coding": [{"system": "http://loinc.org", "code": code}]}
    at = (START + timedelta(hours=hour)).isoformat()
    return observation() | {"id": f"lab{hour:g}", "code": coded, "effectiveDateTime": at, "valueQuantity": quantity}


def reading(*resources: Resource) -> fusion.PatientReading:
    record = PatientRecord.from_resources([PATIENT, STAY, *resources], prediction_time=AT)
    return fusion.PatientReading(record, record.features(), READER.read(record.notes()))


def noted(*resources: Resource) -> PatientRecord:
    return reading(*resources).noted


def test_notes_and_record_make_one_trend() -> None:
    found = noted(lab(2, "2160-0", 1.2, "mg/dL"), note(12, "Cr 2.4 mg/dL"), note(32, "Creatinine is 3.6")).features()
    assert [found.number(f"creatinine.{name}") for name in ("first", "last", "min", "max")] == [1.2, 3.6, 1.2, 3.6]
    slope = found.number("creatinine.slope")
    assert slope is not None
    assert slope == pytest.approx(np.polyfit([2, 12, 32], [1.2, 2.4, 3.6], 1)[0], abs=1e-5)


def test_a_value_keeps_its_note_as_its_source_and_the_notes_time() -> None:
    record = noted(note(12, "Cr 2.4 mg/dL"))
    (item,) = (one for one in record.measurements if one.concept == "creatinine")
    assert (item.source, item.unit, item.time) == ("DocumentReference/n12", "mg/dL", START + timedelta(hours=12))
    assert sources(record, "noted.creatinine.last", record.features()) == ("DocumentReference/n12",)


def test_a_ratio_may_have_one_part_in_the_record_and_one_in_a_note() -> None:
    both = reading(lab(10, "2703-7", 80, "mm[Hg]"), note(9, "FiO2 50%"))
    assert fusion.row(both, ["pao2_fio2.last", "noted.pao2_fio2.last"]).tolist() == [
        pytest.approx(np.nan, nan_ok=True),
        160.0,
    ]


def test_what_the_record_has_is_not_counted_again() -> None:
    record = noted(lab(10, "2160-0", 2.4, "mg/dL"), note(12, "Cr 2.4"))
    assert [item.source for item in record.measurements if item.concept == "creatinine"] == ["Observation/lab10"]
    later = noted(lab(10, "2160-0", 2.4, "mg/dL"), note(38, "Cr 2.4"))
    assert len([item for item in later.measurements if item.concept == "creatinine"]) == 2


def test_an_earlier_value_lies_halfway_to_the_statement_before() -> None:
    record = noted(note(10, "Cr 1.1"), note(30, "Cr rose from 1.2 to 3.4"))
    found = [(item.time - START, item.value) for item in record.measurements if item.concept == "creatinine"]
    assert found == [(timedelta(hours=10), 1.1), (timedelta(hours=20), 1.2), (timedelta(hours=30), 3.4)]


def test_a_rate_of_urine_is_an_amount_for_each_hour_since_the_last() -> None:
    record = noted(note(6, "UO 20 mL/h"), note(16, "urine output 300 mL over the last 10 hours"))
    amounts = [item.value for item in record.measurements if item.concept == "urine_output"]
    assert amounts == [20.0] * 6 + [30.0] * 10


def test_charted_urine_is_not_counted_again() -> None:
    record = noted(lab(12, "9187-6", 25, "mL"), note(6, "UO 20 mL/h"), note(16, "UO 30 mL/h"))
    amounts = [(item.source, item.value) for item in record.measurements if item.concept == "urine_output"]
    assert amounts == [("DocumentReference/n6", 20.0)] * 6 + [("Observation/lab12", 25.0)]


def test_ventilation_in_notes_is_ventilation() -> None:
    before = reading(note(6, "intubated and ventilated"), note(20, "remains on mechanical ventilation"))
    assert before.vector.number("mechanical_ventilation.last") == 0
    found = fusion.row(before, ["noted.mechanical_ventilation.last", "noted.mechanical_ventilation.hours"])
    assert found.tolist() == [1, 14]
    assert noted(note(6, "extubated, on nasal cannula")).procedures == ()


NOT_MEASURED = [
    "Baseline creatinine 1.0.",
    "Mother had kidney failure with creatinine 5.6.",
    "Call if creatinine > 4.",
    "Acute kidney injury.",
    "No acute kidney injury.",
    "",
]


@pytest.mark.parametrize("text", NOT_MEASURED)
def test_goals_relatives_earlier_years_and_words_measure_nothing(text: str) -> None:
    one = reading(note(12, text))
    assert one.noted is one.record
    assert np.isnan(fusion.row(one, ["noted.creatinine.last"]))[0]


def test_without_a_stay_or_notes_the_record_is_as_it_was() -> None:
    record = PatientRecord.from_resources([PATIENT, lab(10, "2160-0", 2.4, "mg/dL")], prediction_time=AT)
    values = reading(note(12, "Cr 2.4")).findings
    assert isinstance(values, NoteFindings)
    assert with_note_values(record, values.values) is record
    unread = fusion.PatientReading(record, record.features())
    assert fusion.row(unread, ["creatinine.last", "noted.creatinine.last"]).tolist() == pytest.approx([2.4, 2.4])


def test_only_inputs_that_can_change_are_made_again() -> None:
    plain = ["creatinine.last", "sodium.last", "bun_creatinine.max", "urine_output.rate_6h", "age.last"]
    stated = ["note.creatinine.max", "note.urine_rate.last", "note.sodium.grade"]
    assert noted_names(plain, stated) == [
        "noted.creatinine.last",
        "noted.bun_creatinine.max",
        "noted.urine_output.rate_6h",
    ]
    assert concept_of("noted.bun_creatinine.max") == "bun_creatinine"
    assert can_be_computed("noted.creatinine.last".removeprefix(NOTED))


def test_without_its_notes_a_row_is_what_the_record_alone_gives() -> None:
    both = reading(lab(2, "2160-0", 1.2, "mg/dL"), note(12, "Cr 2.4 mg/dL"))
    names = ["creatinine.last", "noted.creatinine.last", "noted.bun.last", "note.creatinine.last"]
    row = fusion.row(both, names)
    assert row.tolist() == pytest.approx([1.2, 2.4, np.nan, 2.4], nan_ok=True)
    alone = fusion.without_notes(names, row)
    assert alone.tolist() == pytest.approx([1.2, 1.2, np.nan, np.nan], nan_ok=True)


def test_a_model_that_learned_with_notes_is_moved_by_them_and_says_where_it_read(tmp_path: Path) -> None:
    """Lactate in a note alone: the estimate moves, the driver has value, unit and the note; unread, it is a gap."""
    cohort = simulated(1500)
    alone, stated = cohort.x[:, NAMES.index("lactate.last")], simulated_lactate(cohort)
    x = np.column_stack([cohort.x, np.where(np.isnan(alone), stated, alone)]).astype(np.float32)
    learned = replace(cohort, names=(*NAMES, "noted.lactate.last"), x=x)
    folder = tmp_path / "model"
    model = written(folder, fit(learned, parameters=QUICK), learned)
    chart = [lab(30, "8867-4", 88, "/min"), lab(31, "2951-2", 139, "mmol/L")]
    low, high = (reading(*chart, note(34, f"Lactate {value} mmol/L")) for value in (0.9, 5.1))
    least, most = (model.estimate(one.record, one.findings) for one in (low, high))
    assert least.probability is not None
    assert most.probability is not None
    assert most.probability > least.probability + 0.1
    driver = next(driver for driver in most.drivers if driver.concept == "lactate")
    assert (driver.value, driver.sources) == ("5.1 mmol/L", ("DocumentReference/n34",))
    unread = model.estimate(high.record)
    assert "Lactate" in {gap.name for gap in unread.gaps}
    assert unread.drivers == ()


def simulated_lactate(cohort: TrainingRows) -> NDArray[np.float64]:
    """Values for rows whose record has none, higher where the patient died."""
    generator = np.random.default_rng(5)
    return np.exp(generator.normal(0.3, 0.4, len(cohort.y)) + 0.8 * cohort.y)
