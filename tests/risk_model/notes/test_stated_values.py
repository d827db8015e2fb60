"""What notes state is read as it stands: values with units, grades, states; not goals, relatives or earlier years."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fhir_mapping import CopiedBlock, Note, PatientRecord
from fhir_mapping.notes.sections import find_sections
from fhir_mapping.terminology.concepts import DefinitionError, definitions
from fhir_mapping.terminology.note_terms import note_phrases, parse
from risk_model.core.values import NoteFindings, NoteValue, Polarity, Temporality
from risk_model.features.inputs import concept_of, label_of
from risk_model.features.note_inputs import note_inputs
from risk_model.first_stage.fusion import PatientReading, frequent_values, row
from risk_model.notes.stated_values import ValueReader, timed

READER = ValueReader()


def read(text: str) -> list[NoteValue]:
    return list(READER.read(text, find_sections(text), "n1"))


def own(text: str) -> list[tuple[str, float]]:
    """Numbers and states of this patient, now."""
    return [(v.concept, round(v.value, 2)) for v in read(text) if v.counts and v.value is not None]


NUMBERS = [
    ("Cr 3.4 mg/dL", [("creatinine", 3.4)]),
    ("lactate was 4.1", [("lactate", 4.1)]),
    ("GCS 8 (E2V2M4)", [("gcs", 8)]),
    ("GCS E2 VT M4", [("gcs", 7)]),
    ("Glasgow coma scale of 15/15", [("gcs", 15)]),
    ("GCS 3T", [("gcs", 3)]),
    ("UO 15 mL/h", [("urine_rate", 15)]),
    ("UOP 360 cc over the last 12 hours", [("urine_rate", 30)]),
    ("urine output 1.2 L/24h", [("urine_rate", 50)]),
    ("urine output over 12 h 240 mL", [("urine_rate", 20)]),
    ("rising creatinine, now 3.4", [("creatinine", 3.4)]),
    ("Creatinine (mg/dL): 3.4", [("creatinine", 3.4)]),
    ("Creatinine\t3.4\tmg/dL", [("creatinine", 3.4)]),
    ("creatinine 300 umol/L", [("creatinine", 3.39)]),
    ("creatinine 1,2 mg/dl", [("creatinine", 1.2)]),
    ("creatinine was\n3.4 today", [("creatinine", 3.4)]),
    ("lactate at 06:00 was 4.1", [("lactate", 4.1)]),
    ("lactates 4.1, 3.2, 2.0", [("lactate", 4.1), ("lactate", 3.2), ("lactate", 2.0)]),
    ("Cr 1.2 -> 1.9 -> 3.4", [("creatinine", 1.2), ("creatinine", 1.9), ("creatinine", 3.4)]),
    ("bili 85 umol/L", [("bilirubin", 4.97)]),
    ("ABG 7.32/35/88/18 on FiO2 0.5", [("ph", 7.32), ("paco2", 35), ("pao2", 88), ("bicarbonate", 18), ("fio2", 50)]),
    ("pO2 8.2 kPa", [("pao2", 61.51)]),
    ("BP 82/45 (MAP 57)", [("systolic_bp", 82), ("diastolic_bp", 45), ("mean_bp", 57)]),
    ("Na 138  K 4.2  Cl 101", [("sodium", 138), ("potassium", 4.2), ("chloride", 101)]),
    ("WBC 12 K, plts 150 K/uL", [("wbc", 12), ("platelets", 150)]),
    ("temp 101.3 F", [("temperature", 38.5)]),
    ("base excess -8", [("base_excess", -8)]),
    ("intubated and ventilated", [("mechanical_ventilation", 1), ("mechanical_ventilation", 1)]),
    ("extubated yesterday, on room air", [("mechanical_ventilation", 0), ("mechanical_ventilation", 0)]),
    ("not ventilated", [("mechanical_ventilation", 0)]),
    ("creatinine climbing, 3.4 this morning", [("creatinine", 3.4)]),
    ("creatinine has come down to 1.9", [("creatinine", 1.9)]),
    ("creatinine between 1.9 and 3.4", [("creatinine", 1.9), ("creatinine", 3.4)]),
    ("creatinine first 1.9 and later 3.4", [("creatinine", 1.9), ("creatinine", 3.4)]),
    ("creatinine max 3.4, min 1.9", [("creatinine", 3.4), ("creatinine", 1.9)]),
    ("creatinine 3.4 mg per dL", [("creatinine", 3.4)]),
    ("bicarb 18 mEq per L", [("bicarbonate", 18)]),
    ("lactate clearing (4.1 to 2.0)", [("lactate", 4.1), ("lactate", 2.0)]),
    ("Lactate* 4.1 (H)", [("lactate", 4.1)]),
    ("Lactate 4.1H", [("lactate", 4.1)]),
    ("Lactate [4.1]", [("lactate", 4.1)]),
    ("BUN/Cr 45/3.4", [("bun", 45), ("creatinine", 3.4)]),
    ("BUN and creatinine of 45 and 3.4", [("bun", 45), ("creatinine", 3.4)]),
    ("PaO2/FiO2 88/0.5", [("pao2", 88), ("fio2", 50)]),
    ("GCS 3-4-5", [("gcs", 12)]),
    ("GCS fluctuating 8 to 12", [("gcs", 8), ("gcs", 12)]),
    ("worst GCS 6, best 11", [("gcs", 6), ("gcs", 11)]),
    ("FiO2 .5", [("fio2", 50)]),
    ("Na 138 mmol/L K pending, haemolysed", [("sodium", 138)]),
    ("50 % FiO2", [("fio2", 50)]),
    ("making 20 cc/hr of urine", [("urine_rate", 20)]),
    ("urine 1.2 litres in 24 hours", [("urine_rate", 50)]),
    ("pH 7.21, CO2 60, O2 88", [("ph", 7.21), ("paco2", 60), ("pao2", 88)]),
    ("gas shows pH of 7.21 with a CO2 of 8 kPa", [("ph", 7.21), ("paco2", 60.0)]),
    ("pH 7.21/60/88", [("ph", 7.21), ("paco2", 60), ("pao2", 88)]),
    ("pH 7.21 on O2 4 L", [("ph", 7.21)]),
    ("Hx:\nself ventilating, creatinine 3.4", [("mechanical_ventilation", 0), ("creatinine", 3.4)]),
    ("PMH: COPD.\nKidneys: creatinine 3.4", [("creatinine", 3.4)]),
]
NOTHING = [
    "baseline creatinine 1.0",
    "Cr 1.0 six months ago",
    "creatinine 1.1 at last discharge",
    "mother had creatinine 5.6 and was on dialysis",
    "Family history: father with bilirubin 12",
    "Goal MAP > 65",
    "keep K 4.5",
    "call HO if UO 20 mL/h",
    "Past medical history: creatinine 2.0",
    "creatinine pending; lactate not sent",
    "creatinine, 64 year old man",
    "Cr 2 hours later",
    "Creatinine:\n1. Heart failure",
    "lactate > 10",
    "urine creatinine 80",
    "creatinine clearance 45",
    "lactated Ringer's 500",
    "potassium 10 mEq PO",
    "potassium chloride 20",
    "magnesium 2 g IV",
    "creatinine 3.4 mmHg",
    "creatinine 900",
    "BUN/Cr ratio 20",
    "urine output 300 mL",
    "on 12/03 lactate 11/2",
    "would not want to be intubated",
    "may need to be intubated",
    "intubated in 2009",
    "not on room air",
    "creatinine and 2 units of blood",
    "BUN/Cr ratio improving",
    "creatinine in 3-4 hours",
    "lactate 4 hourly",
    "creatinine between 2 and 3 weeks after the contrast",
]


@pytest.mark.parametrize(("text", "expected"), NUMBERS)
def test_what_is_said_is_read(text: str, expected: list[tuple[str, float]]) -> None:
    assert own(text) == expected


@pytest.mark.parametrize("text", NOTHING)
def test_what_is_not_this_patients_value_now_is_not_read_as_one(text: str) -> None:
    assert own(text) == []
    assert note_inputs(read(text)) == {}


GRADES = [
    ("oliguric", "urine_rate", -1),
    ("not oliguric", "urine_rate", 0),
    ("oliguria resolved", "urine_rate", 0),
    ("obtunded", "gcs", -1),
    ("opens eyes to pain only", "gcs", -2),
    ("alert and oriented", "gcs", 0),
    ("no lactataemia", "lactate", 0),
    ("bilirubin within normal limits", "bilirubin", 0),
    ("markedly elevated lactate", "lactate", 2),
    ("platelets remain low", "platelets", -1),
    ("no longer jaundiced", "bilirubin", 0),
]


@pytest.mark.parametrize(("text", "concept", "grade"), GRADES)
def test_a_graded_statement(text: str, concept: str, grade: int) -> None:
    (value,) = read(text)
    assert (value.concept, value.grade, value.value) == (concept, grade, None)
    assert value.counts


@pytest.mark.parametrize("text", ["not alert and oriented", "possible worlds", "lactate", "watch for oliguria"])
def test_a_missing_grade_is_none(text: str) -> None:
    assert not [value for value in read(text) if value.counts]


def test_an_earlier_value_of_the_same_sentence_is_not_the_last() -> None:
    for text in (
        "lactate down to 1.8 from 3.4",
        "lactate was 3.4, now 1.8",
        "lactate 3.4 -> 1.8",
        "lactate 1.8 (was 3.4)",
    ):
        assert note_inputs(read(text))["note.lactate.last"] == 1.8, text
        assert note_inputs(read(text))["note.lactate.max"] == 3.4, text


def test_a_baseline_beside_the_value_is_history() -> None:
    for text in ("Cr 3.4 (baseline 1.0)", "baseline creatinine 1.0, now 3.4"):
        said = {value.value: value.temporality for value in read(text)}
        assert said == {3.4: Temporality.CURRENT, 1.0: Temporality.HISTORICAL}, text


def test_every_value_is_anchored_in_the_notes_own_words() -> None:
    text = "; ".join(text for text, _ in NUMBERS) + ". " + ". ".join(text for text, _, _ in GRADES)
    values = read(text)
    assert len(values) > 40
    assert all(text[value.start : value.end] == value.quote != "" for value in values)


def test_an_assumed_unit_is_marked() -> None:
    assert [value.unit_assumed for value in read("Cr 3.4 mg/dL, BUN 60")] == [False, True]


def test_each_implausible_value_of_each_concept_is_left_out() -> None:
    """Every name of every concept is readable, and only within the concept's range."""
    for name, words in note_phrases().concepts.items():
        for written in words.names:
            inside = round((words.without_unit[0] + words.without_unit[1]) / 2)
            text = f"{written}: {inside} mL/h" if name == "urine_rate" else f"{written}: {inside}"
            assert (name, float(inside)) in own(text), text
            assert own(f"{written}: 99999999") == []


def note(text: str, source: str, hour: int, copied: tuple[CopiedBlock, ...] = ()) -> Note:
    at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    return Note(source, "Progress note", at, text, (), source, "read", copied=copied)


def test_the_last_value_is_that_of_the_newest_note_and_copies_do_not_count_again() -> None:
    old = note("Lactate 6.0. GCS 7.", "n1", 2)
    new = note("Lactate 2.0. GCS 14. Lactate 6.0.", "n2", 20, (CopiedBlock(21, 33, "n1"),))
    values = timed([v for n in (new, old) for v in READER.read(n.text, n.sections, n.source)], [new, old])
    found = note_inputs(values)
    assert len([value for value in values if value.value == 6.0]) == 1
    assert (found["note.lactate.first"], found["note.lactate.last"]) == (6.0, 2.0)
    assert (found["note.gcs.min"], found["note.gcs.last"]) == (7.0, 14.0)


def test_unknown_is_never_normal() -> None:
    record = PatientRecord.from_resources(
        [{"resourceType": "Patient", "id": "p"}], prediction_time="2024-01-02T00:00:00Z"
    )
    nothing = NoteFindings((), None, "rules-1", 1, 0)
    findings = replace(nothing, values=tuple(read("Cr 3.4, no lactataemia")))
    names = ["note.creatinine.last", "note.lactate.last", "note.lactate.grade", "note.gcs.last"]
    said = row(PatientReading(record, record.features(), findings), names)
    np.testing.assert_array_equal(said, np.array([3.4, np.nan, 0, np.nan], np.float32))
    for findings_or_none in (nothing, None):
        assert np.isnan(row(PatientReading(record, record.features(), findings_or_none), names)).all()


def test_inputs_are_those_that_enough_notes_state() -> None:
    often = NoteFindings((), None, "rules-1", 1, 0, values=tuple(read("Cr 3.4")))
    once = replace(often, values=tuple(read("Cr 3.4, lactate 2.0")))
    assert set(frequent_values([often] * 5 + [once])) == {
        f"note.creatinine.{name}" for name in ("last", "first", "min", "max")
    }
    assert label_of(concept_of("note.gcs.last")) == "Glasgow Coma Scale, as notes say"


def test_uncertain_statements_count_for_nothing() -> None:
    (value,) = read("jaundiced")
    assert note_inputs([replace(value, polarity=Polarity.UNCERTAIN)]) == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"concepts": {"mana": {}}}, "concepts.mana"),
        ({"concepts": {"sodium": {"name": []}}}, "concepts.sodium.name"),
        ({"concepts": {"sodium": {"names": [True]}}}, "concepts.sodium.names"),
        ({"concepts": {"sodium": {"grades": {"lowish": ["x"]}}}}, "concepts.sodium.grades"),
        ({"concepts": {"sodium": {"without_unit": [3, 1]}}}, "concepts.sodium.without_unit"),
        ({"adjectives": {"so so": ["x"]}}, "adjectives"),
        ({"states": {"asleep": {"label": "Asleep", "present": ["asleep"]}}}, "states.asleep.absent"),
    ],
)
def test_a_broken_file_of_words_is_named_with_its_field(change: dict[str, object], field: str) -> None:
    empty = {"concepts": {}, "measured": {}, "states": {}, "pressures": [], "blood_gases": [], "adjectives": {}}
    with pytest.raises(DefinitionError) as caught:
        parse(empty | change, "site.yaml", definitions())
    assert (caught.value.file, caught.value.field) == ("site.yaml", field)
