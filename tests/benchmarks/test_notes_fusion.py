"""Generated notes: deterministic, the only place of the moved values, and independent of the outcome."""

from __future__ import annotations

import base64
import inspect
import json
import re
from collections import Counter
from datetime import timedelta

import numpy as np
import pytest

from benchmarks import cinc_fhir, note_writing, readme
from benchmarks.cinc_fhir import IcuStay
from benchmarks.note_styles import UNSEEN, WRITING_STYLES
from benchmarks.note_writing import (
    MOVED,
    StatedValue,
    WrittenNote,
    moved_series,
    with_notes,
    without_moved,
    writing_style_of,
    written,
)
from benchmarks.notes_evidence import problems
from benchmarks.notes_extraction import scores, summary
from benchmarks.notes_fusion import recovered
from fhir_mapping import PatientRecord
from risk_model.features.note_inputs import note_inputs
from risk_model.notes.stated_values import ValueReader

AT = cinc_fhir.ADMISSION + timedelta(hours=48)


def stay(record_id: str, shift: float = 0.0) -> IcuStay:
    """A patient whose consciousness, kidneys and gases change over two days."""
    rows = [("00:00", "RecordID", float(record_id)), ("00:00", "Age", 70.0), ("00:00", "Gender", 1.0)]
    for hour in range(1, 48, 3):
        at = f"{hour:02d}:15"
        rows += [(at, "HR", 90.0), (at, "Urine", 40.0 + hour + shift), (at, "GCS", 6.0 + hour // 12)]
        rows += [(at, "Na", 138.0), (at, "Creatinine", 1.4 + hour / 20), (at, "BUN", 40.0 + hour)]
        rows += [(at, "pH", 7.31), (at, "PaO2", 88.0), (at, "PaCO2", 41.0), (at, "FiO2", 0.5), (at, "HCO3", 19.0)]
        rows += [(at, "Lactate", 4.4 - hour / 20), (at, "Bilirubin", 2.2), (at, "MechVent", 1.0)]
    return IcuStay(record_id, tuple(rows))


PATIENTS = [stay(str(number)) for number in range(1, 26)]


def test_every_style_is_used() -> None:
    assert {writing_style_of(patient.record_id) for patient in PATIENTS} == set(range(len(WRITING_STYLES)))
    assert set(UNSEEN) < set(range(len(WRITING_STYLES)))


def test_the_same_stay_and_seed_give_the_same_notes() -> None:
    for patient in PATIENTS:
        assert written(patient, 1) == written(patient, 1)
        assert [note.text for note in written(patient, 1)] != [note.text for note in written(patient, 2)]


def test_moved_values_are_not_in_the_structured_record() -> None:
    """Not as a resource, not as a feature, not by way of a ratio; and everything else stays as it was."""
    moved = {
        "gcs", "mechanical_ventilation", "fio2", "ph", "pao2", "paco2", "bicarbonate", "lactate", "creatinine", "bun",
        "bilirubin", "urine_output",
    }  # fmt: skip
    assert len(moved) == len(MOVED)
    patient = PATIENTS[0]
    everything = PatientRecord.from_resources(cinc_fhir.to_fhir(patient), prediction_time=AT).features()
    left = PatientRecord.from_resources(with_notes(patient, 1), prediction_time=AT).features()
    assert moved <= {name.partition(".")[0] for name in everything}
    kept = {name for name in left if name.partition(".")[0] not in moved | {"procedure"}}
    assert {name for name in left if name.partition(".")[0] in moved} <= {"mechanical_ventilation.last"}
    assert left.number("mechanical_ventilation.last") == 0  # nobody coded it, and procedures were fetched
    for name in kept:
        assert left.values[name].value == everything.values[name].value, name
    assert {row[1] for row in without_moved(patient).rows} == {row[1] for row in patient.rows} - set(MOVED)
    codes = {c["code"] for r in with_notes(patient, 1) if "code" in r for c in r["code"]["coding"]}
    assert codes.isdisjoint({cinc_fhir.PARAMETERS[name][0] for name in MOVED if name in cinc_fhir.PARAMETERS})


def test_the_notes_are_dated_within_the_first_48_hours_and_readable() -> None:
    for patient in PATIENTS:
        record = PatientRecord.from_resources(with_notes(patient, 1), prediction_time=AT)
        notes = record.notes()
        assert len(notes) == len(written(patient, 1))
        assert all(note.status == "read" and note.time and cinc_fhir.ADMISSION < note.time <= AT for note in notes)


def test_a_note_states_nothing_that_is_measured_after_it() -> None:
    """Changing the last hours changes no earlier note."""
    patient = PATIENTS[3]
    late = tuple(row if row[0] < "40:00" else (row[0], row[1], row[2] + 1) for row in patient.rows)
    before, after = written(patient, 1), written(IcuStay(patient.record_id, late), 1)
    assert before[:4] == after[:4]
    assert before[-1] != after[-1]


def test_the_label_cannot_be_in_the_text() -> None:
    """The generator takes measurements alone, and no style has a phrase for the outcome."""
    assert list(inspect.signature(written).parameters) == ["stay", "seed"]
    assert "outcome" not in inspect.getsource(note_writing).partition('"""')[2].partition('"""')[2].lower()
    fatal = re.compile(
        r"\b(dead|died|dies|death|dying|deceased|expired|surviv\w*|mortality|palliat\w*|comfort care)\b", re.I
    )
    for patient in PATIENTS:
        assert written(patient, 1)
        assert not [note.text for note in written(patient, 1) if fatal.search(note.text)]
    assert not fatal.search(json.dumps([[h.asides, h.filler, list(h.graded.values())] for h in WRITING_STYLES]))


def test_stays_with_and_without_the_outcome_get_the_same_styles(shared_data: object) -> None:
    folder = shared_data / "cinc2012"  # type: ignore[operator]
    outcomes = cinc_fhir.read_outcomes(folder / "Outcomes-a.csv")
    died = [writing_style_of(name) for name, row in outcomes.items() if row["In-hospital_death"]]
    rest = [writing_style_of(name) for name, row in outcomes.items() if not row["In-hospital_death"]]
    shares = [np.bincount(part, minlength=len(WRITING_STYLES)) / len(part) for part in (died, rest)]
    assert np.abs(shares[0] - shares[1]).max() < 0.05


def test_each_style_has_phrases_for_every_grade() -> None:
    for style in WRITING_STYLES:
        for concept, bands in note_writing._BANDS.items():
            assert all(style.graded[f"{concept} {grade}"] for _, grade in bands)


def test_notes_hold_numbers_words_denials_copies_and_asides() -> None:
    notes = [note for patient in PATIENTS for note in written(patient, 1)]
    stated = [fact for note in notes for fact in note.stated]
    assert any(fact.grade is not None for fact in stated)
    assert any(fact.value is not None for fact in stated)
    assert any(len(note.text.split("\n\n")) == 4 for note in notes)
    asides = [aside.partition("{")[0] for style in WRITING_STYLES for aside in style.asides]
    assert any(aside in note.text for aside in asides for note in notes)


def test_the_reader_finds_what_the_known_styles_state() -> None:
    """On styles it was developed with; the figure for unseen ones is measured, not demanded."""
    reader, by_style = ValueReader(), dict[int, Counter[str]]()
    for patient in PATIENTS:
        for note in written(patient, 1):
            own = "\n\n".join(note.text.split("\n\n")[:2])
            found = [value for value in reader.read(own) if value.counts]
            by_style.setdefault(writing_style_of(patient.record_id), Counter()).update(scores(note, found))
    rates = summary(by_style)["houses_at_hand"]
    assert all(rates[kind]["recall"] > 0.9 and rates[kind]["precision"] > 0.9 for kind in ("number", "grade", "state"))


def test_scores_count_misses_and_inventions() -> None:
    note = WrittenNote(
        5.0,
        "Progress note",
        "",
        (StatedValue("creatinine", 3.4), StatedValue("lactate", 2.0), StatedValue("gcs", None, -2)),
    )
    found = list(ValueReader().read("Cr 3.4, BUN 60, drowsy"))
    counts = scores(note, found)
    assert (counts["stated number"], counts["stated_found number"]) == (2, 1)
    assert (counts["read number"], counts["read_right number"]) == (2, 1)
    assert (counts["stated_found grade"], counts["read_right grade"]) == (1, 1)
    assert scores(note, list(ValueReader().read("no lactataemia, alert and oriented")))["stated_found grade"] == 0


def test_problems_use_known_values_only() -> None:
    stated = note_inputs(ValueReader().read("GCS 5, oliguric"))
    assert problems({"systolic_bp.min": 80.0} | stated) == ("hypotension", "coma", "oliguria")
    assert problems({}) == ()


def test_the_regained_share() -> None:
    generator = np.random.default_rng(1)
    y = (generator.random(600) < 0.3).astype(float)
    noise = generator.normal(size=600)
    margins = {"structured": noise, "fused": noise + 2 * y, "oracle": noise + 2 * y, "nothing": noise}
    assert recovered(y, margins, "fused")["value"] == pytest.approx(1)
    assert recovered(y, margins, "nothing")["interval"] == [0, 0]


def test_the_documents_are_plain_fhir() -> None:
    documents = [r for r in with_notes(PATIENTS[1], 1) if r["resourceType"] == "DocumentReference"]
    texts = [base64.b64decode(d["content"][0]["attachment"]["data"]).decode() for d in documents]
    assert texts == [note.text for note in written(PATIENTS[1], 1)]
    assert moved_series(IcuStay("1", (("00:30", "GCS", -1.0), ("00:20", "GCS", 9.0)))) == {"gcs": [(1 / 3, 9.0)]}


def test_the_committed_result_is_of_this_design() -> None:
    result = json.loads((readme.RESULTS / "notes_fusion.json").read_text("utf-8"))
    assert result["moved_into_notes"] == sorted(MOVED.values())
    low, high = (result["arms"][name]["auroc"]["value"] for name in ("structured", "oracle"))
    assert low < result["arms"]["fused"]["auroc"]["value"] <= high + 0.02
    assert {"notes", "structured, evidence", "fused, evidence"} <= result["arms"].keys()
