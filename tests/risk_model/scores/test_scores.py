"""LACE, HOSPITAL, NEWS2 and qSOFA: each border of each table, and what a missing input does."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_mapping import PatientRecord
from risk_model import hospital_score, lace, news2, qsofa
from risk_model.scores.readmission import LACE_EXPECTED
from tests.fhir_mapping.record.test_cases import PATIENT, STAY, observation

AT = datetime(2024, 5, 3, 12, tzinfo=UTC)
ICD = "http://hl7.org/fhir/sid/icd-10-cm"


def record(
    *resources: dict[str, Any], not_fetched: frozenset[str] = frozenset(), patient: Any = PATIENT
) -> PatientRecord:
    return PatientRecord.from_resources([patient, *resources], prediction_time=AT, not_fetched=not_fetched)


def stay(days: float, **more: Any) -> dict[str, Any]:
    start = datetime.fromtimestamp(AT.timestamp() - days * 86_400, UTC)
    return STAY | {"period": {"start": start.isoformat()}} | more


def points(score: Any, name: str) -> int:
    return next(number for label, _, number in score.inputs if label == name)


@pytest.mark.parametrize(
    ("days", "expected"), [(0.5, 0), (1, 1), (2.5, 2), (3, 3), (4, 4), (6.9, 4), (7, 5), (13, 5), (14, 7), (60, 7)]
)
def test_lace_length_of_stay(days: float, expected: int) -> None:
    found = lace(record(stay(days)))
    assert found is not None
    assert points(found, "length of stay") == expected


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        (["I25.2"], 1),
        (["E11.9", "I25.2"], 2),
        (["I50.9"], 2),
        (["F03.90"], 3),
        (["I50.9", "J44.9"], 5),
        (["C78.0"], 5),
        (["E11.9", "E11.22"], 2),
    ],
)
def test_lace_comorbidity_has_its_own_weights(codes: list[str], expected: int) -> None:
    conditions = [
        {
            "resourceType": "Condition",
            "id": f"c{n}",
            "subject": {"reference": "Patient/p"},
            "code": {"coding": [{"system": ICD, "code": code}], "text": code},
        }
        for n, code in enumerate(codes)
    ]
    found = lace(record(stay(2), *conditions))
    assert found is not None
    assert points(found, "comorbidities") == expected


def test_a_code_of_another_system_is_not_read_as_icd() -> None:
    condition = {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "local", "code": "I50.9"}], "text": "?"},
    }
    found = lace(record(stay(2), condition))
    assert found is not None
    assert points(found, "comorbidities") == 0


def test_missing_inputs_give_a_range_and_no_risk() -> None:
    found = lace(record(stay(2), not_fetched=frozenset({"Condition"})))
    assert found is not None
    assert set(found.missing) == {"emergency admission", "comorbidities"}
    assert (found.low, found.high) == (2, 10)
    assert found.expected_risk is None
    assert not found.complete


def test_lace_complete_has_its_published_risk() -> None:
    urgent = {"priority": {"coding": [{"code": "EM"}]}}
    found = lace(record(stay(4, **urgent)))
    assert found is not None
    assert (found.low, found.complete, found.expected_risk) == (7, True, LACE_EXPECTED[7])


def test_the_published_lace_risks_lie_on_one_logistic_curve() -> None:
    """A mistyped entry of the table would stick out: the table is the fit of a logistic regression on the score.

    Another list in circulation (16.8 at 12, 19.6 at 13, ... 38.5 at 18) lies on no such curve by twice the margin.
    """
    assert (LACE_EXPECTED[0], LACE_EXPECTED[10], LACE_EXPECTED[19]) == (0.020, 0.122, 0.437)
    for score, probability in enumerate(LACE_EXPECTED):
        fitted = 1 / (1 + math.exp(3.891 - 0.1916 * score))
        assert probability == pytest.approx(fitted, abs=0.00095), score


def test_the_two_published_ends_alone_give_the_lace_risks_between() -> None:
    """Only 0, 10 and 19 could be read in public: the rest is held to the logistic curve through the ends, which gives
    the third of them by itself."""
    low, high = (math.log(p / (1 - p)) for p in (0.020, 0.437))
    for score, probability in enumerate(LACE_EXPECTED):
        derived = 1 / (1 + math.exp(-(low + (high - low) * score / 19)))
        assert probability == pytest.approx(derived, abs=0.0005 if score == 10 else 0.0013), score


@pytest.mark.parametrize(("code", "value", "name", "expected"), [
    ("718-7", 11.9, "hemoglobin", 1), ("718-7", 12.0, "hemoglobin", 0),
    ("2951-2", 134, "sodium", 1), ("2951-2", 135, "sodium", 0),
])  # fmt: skip
def test_hospital_laboratory_borders(code: str, value: float, name: str, expected: int) -> None:
    unit = "g/dL" if code == "718-7" else "mmol/L"
    found = hospital_score(record(stay(2), observation(code, value, unit)))
    assert found is not None
    assert points(found, name) == expected


@pytest.mark.parametrize(("days", "expected"), [(4.9, 0), (5, 2)])
def test_hospital_length_of_stay(days: float, expected: int) -> None:
    found = hospital_score(record(stay(days)))
    assert found is not None
    assert points(found, "length of stay") == expected


NEWS: list[tuple[str, str, str, list[tuple[float, int]]]] = [
    ("9279-1", "/min", "respiratory rate", [(8, 3), (9, 1), (11, 1), (12, 0), (20, 0), (21, 2), (24, 2), (25, 3)]),
    ("2708-6", "%", "oxygen saturation", [(91, 3), (92, 2), (93, 2), (94, 1), (95, 1), (96, 0)]),
    ("8480-6", "mm[Hg]", "systolic pressure", [(90, 3), (91, 2), (100, 2), (101, 1), (110, 1), (111, 0), (219, 0), (220, 3)]),
    ("8867-4", "/min", "heart rate", [(40, 3), (41, 1), (50, 1), (51, 0), (90, 0), (91, 1), (110, 1), (111, 2), (130, 2), (131, 3)]),
    ("8310-5", "Cel", "temperature", [(35.0, 3), (35.1, 1), (36.0, 1), (36.1, 0), (38.0, 0), (38.1, 1), (39.0, 1), (39.1, 2)]),
    ("9269-2", "{score}", "consciousness", [(15, 0), (14, 3)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "unit", "name", "value", "expected"),
    [(code, unit, name, value, want) for code, unit, name, borders in NEWS for value, want in borders],
)
def test_news2_borders(code: str, unit: str, name: str, value: float, expected: int) -> None:
    seen = observation(code, value, unit, effectiveDateTime="2024-05-03T10:00:00Z")
    found = news2(record(stay(2), seen))
    assert found is not None
    assert points(found, name) == expected
    assert len(found.missing) == 6
    assert found.high > found.low


ALL_NEWS = {"9279-1": (16, "/min"), "2708-6": (98, "%"), "8480-6": (120, "mm[Hg]"), "8867-4": (70, "/min"),
            "8310-5": (37.0, "Cel"), "9269-2": (15, "{score}"), "3150-6": (21, "%")}  # fmt: skip


def news(**changes: float | None) -> Any:
    """NEWS2 of a well patient whose every input is known, with values changed (LOINC `c9279_1=`) or left out (None)."""
    given = {name[1:].replace("_", "-"): value for name, value in changes.items()}
    seen = [
        observation(code, given.get(code, value), unit, effectiveDateTime="2024-05-03T10:00:00Z", id=f"o{code}")
        for code, (value, unit) in ALL_NEWS.items()
        if given.get(code, value) is not None
    ]
    return news2(record(stay(2), *seen))


@pytest.mark.parametrize(
    ("changes", "low", "high", "band"),
    [
        ({}, 0, 0, "low"),
        ({"c9279_1": 8}, 3, 3, "low-medium"),
        ({"c9279_1": 22, "c2708_6": 92}, 4, 4, "low"),
        ({"c9279_1": 22, "c2708_6": 92, "c8310_5": 38.5}, 5, 5, "medium"),
        ({"c9279_1": 25, "c2708_6": 91, "c8310_5": 38.5}, 7, 7, "high"),
        # The missing input could be the single 3 of "low-medium", or nothing: the band is not known.
        ({"c9279_1": None}, 0, 3, None),
        # Oxygen gives at most 2: still low whatever it is.
        ({"c3150_6": None}, 0, 2, "low"),
        ({"c9279_1": None, "c2708_6": 91, "c8310_5": 39.5, "c8867_4": 115}, 7, 10, "high"),
    ],
)
def test_news2_bands_and_what_a_missing_input_does_to_them(
    changes: dict[str, float | None], low: int, high: int, band: str | None
) -> None:
    found = news(**changes)
    assert (found.low, found.high, found.band) == (low, high, band)


FLOW, FRACTION = ("3151-8", "L/min"), ("3150-6", "%")
# (what, value, hour) of each setting, and the points for oxygen
OXYGEN = [
    ([(FLOW, 2, 2), (FRACTION, 21, 10)], 0),
    ([(FRACTION, 21, 2), (FLOW, 2, 10)], 2),
    ([(FRACTION, 40, 2), (FLOW, 0, 10)], 0),
    ([(FLOW, 0, 10), (FRACTION, 40, 10)], 2),
    ([(FLOW, 2, 10)], 2),
    ([(FRACTION, 21, 10)], 0),
    ([(FLOW, 4, 2), (FLOW, 0, 10)], 0),
]


@pytest.mark.parametrize(("settings", "expected"), OXYGEN)
def test_news2_takes_the_newest_of_oxygen_flow_and_fraction(
    settings: list[tuple[tuple[str, str], float, int]], expected: int
) -> None:
    seen = [
        observation(code, value, unit, effectiveDateTime=f"2024-05-03T{hour:02}:00:00Z", id=f"x{number}")
        for number, ((code, unit), value, hour) in enumerate(settings)
    ]
    found = news2(record(stay(2), *seen))
    assert found is not None
    assert points(found, "air or oxygen") == expected


@pytest.mark.parametrize(
    ("code", "more", "silent"),
    [
        ({"system": ICD, "code": "O14.1"}, {}, True),
        ({"system": "http://snomed.info/sct", "code": "72892002"}, {}, True),
        ({"system": "http://hl7.org/fhir/sid/icd-9-cm", "code": "648.81"}, {}, True),
        ({"system": "http://snomed.info/sct", "code": "72892002"}, {"abatementDateTime": "2020-01-01"}, False),
        ({"system": "local", "code": "O14.1"}, {}, False),
    ],
)
def test_adult_scores_are_silent_in_pregnancy(code: dict[str, str], more: dict[str, Any], silent: bool) -> None:
    condition = {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/p"},
        "onsetDateTime": "2019-06-01",
        "code": {"coding": [code]},
        **more,
    }
    patient = record(stay(2), condition)
    assert [score(patient) is None for score in (lace, hospital_score, news2)] == [silent] * 3


def test_imprecise_and_unclassified_stays_give_ranges() -> None:
    """Dates gave LACE 7 where hours gave 5; four earlier stays of a vendor's class gave HOSPITAL "1-3, low"."""
    dates = STAY | {"status": "finished", "period": {"start": "2024-04-28", "end": "2024-04-30"}}
    patient = PatientRecord.from_resources([PATIENT, dates], prediction_time=AT, encounter_id="stay")
    found = lace(patient)
    assert found is not None
    assert "length of stay" in found.missing
    assert (found.low, found.high) == (1, 6)  # one to three days, and an admission that may have been an emergency
    vendor = {"class": {"system": "urn:oid:1.2.840.114350", "code": "4"}, "status": "finished"}
    earlier = [
        STAY
        | vendor
        | {"id": f"e{n}", "period": {"start": f"2024-0{n}-01T08:00:00Z", "end": f"2024-0{n}-03T08:00:00Z"}}
        for n in (1, 2, 3, 4)
    ]
    some, all_of_them = hospital_score(record(stay(2), *earlier[:2])), hospital_score(record(stay(2), *earlier))
    assert some is not None
    assert all_of_them is not None
    assert "admissions in the year before" in all_of_them.missing
    assert all_of_them.high - all_of_them.low == some.high - some.low == hospital_range(earlier=2)


def hospital_range(earlier: int) -> int:
    """The width of HOSPITAL for a stay without values: 2 for blood, 1 for the admission, and 2 for 2 to 5 stays."""
    assert 2 <= earlier <= 5
    return 2 + 1 + 2


def test_hospital_by_hand() -> None:
    """Anaemia 1, low sodium 1, a procedure 1, urgent 1, two admissions in the year 2, nine days 2: 8 of 13, high."""
    earlier = [
        STAY | {"id": f"e{n}", "status": "finished", "period": {"start": f"2024-0{n}-01", "end": f"2024-0{n}-03"}}
        for n in (1, 2)
    ]
    procedure = {
        "resourceType": "Procedure",
        "id": "op",
        "status": "completed",
        "subject": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/stay"},
        "code": {"text": "Something"},
        "performedDateTime": "2024-05-01",
    }
    urgent = {"priority": {"coding": [{"code": "EM"}]}}
    values = [observation("718-7", 10, "g/dL", id="hb"), observation("2951-2", 130, "mmol/L", id="na")]
    found = hospital_score(record(stay(9, **urgent), *earlier, procedure, *values))
    assert found is not None
    assert (found.low, found.missing, found.band, found.expected_risk) == (8, (), "high", 0.228)


def test_lace_by_hand() -> None:
    """Five days 4, urgent 3, heart failure 2, one emergency visit 1: 10 of 19, 12.2 %."""
    failure = {
        "resourceType": "Condition",
        "id": "hf",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "88805009"}]},
    }
    visit = STAY | {
        "id": "ed",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"},
        "period": {"start": "2024-03-01T08:00:00Z", "end": "2024-03-01T12:00:00Z"},
    }
    found = lace(record(stay(5, priority={"coding": [{"code": "EM"}]}), failure, visit))
    assert found is not None
    assert (found.low, found.high, found.band, found.expected_risk) == (10, 10, "high", 0.122)


def test_news2_uses_only_the_last_day() -> None:
    old = observation("8867-4", 140, "/min", effectiveDateTime="2024-05-02T06:00:00Z")
    found = news2(record(stay(3), old))
    assert found is not None
    assert "heart rate" in found.missing


@pytest.mark.parametrize(
    ("code", "unit", "value", "expected"),
    [("9279-1", "/min", 22, 1), ("9279-1", "/min", 21, 0), ("8480-6", "mm[Hg]", 100, 1), ("8480-6", "mm[Hg]", 101, 0),
     ("9269-2", "{score}", 14, 1), ("9269-2", "{score}", 15, 0)],
)  # fmt: skip
def test_qsofa_borders(code: str, unit: str, value: float, expected: int) -> None:
    found = qsofa(record(stay(2), observation(code, value, unit, effectiveDateTime="2024-05-03T10:00:00Z")))
    assert found is not None
    assert found.low == expected


def test_no_adult_score_for_a_child_or_an_unknown_age() -> None:
    for birth in ("2016-01-01", "2006"):
        child = record(stay(2), patient=PATIENT | {"birthDate": birth})
        assert [score(child) for score in (lace, hospital_score, news2, qsofa)] == [None] * 4
