"""Series and earlier stays as inputs: right where they can be computed, absent where they cannot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mapping import PatientRecord
from fhir_mapping.terminology.concepts import definitions
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D
from risk_model.features.inputs import concept_of, input_names, label_of, row, sources
from risk_model.features.stay_history import HISTORY, history
from risk_model.features.time_series import LEVELS, RATIOS, TimeSeries, series_inputs, series_names

BEGIN = datetime(2024, 2, 10, tzinfo=UTC)
NOW = BEGIN + timedelta(hours=48)
UNITS = {"8867-4": "/min", "8480-6": "mm[Hg]", "2703-7": "mm[Hg]", "3150-6": "%", "9187-6": "mL", "9269-2": "{score}"}
UNITS |= {"29463-7": "kg"}
SUBJECT = {"subject": {"reference": "Patient/p"}}


def observation(code: str, hour: float, value: float) -> dict[str, Any]:
    return SUBJECT | {
        "resourceType": "Observation",
        "id": f"o-{code}-{hour}".replace(".", "-"),
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": (BEGIN + timedelta(hours=hour)).isoformat(),
        "valueQuantity": {"value": value, "unit": UNITS[code], "code": UNITS[code]},
    }


NUBC = "https://www.nubc.org/CodeSystem/PatDischargeStatus"


def encounter(
    name: str, begin: datetime, end: datetime | None, code: str = "427.31", went: str | None = None
) -> dict[str, Any]:
    period = {"start": begin.isoformat()} | ({"end": end.isoformat()} if end else {})
    made: dict[str, Any] = SUBJECT | {"resourceType": "Encounter", "id": name, "period": period}
    made["status"] = "finished" if end else "in-progress"
    made["class"] = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}
    made["reasonCode"] = [{"coding": [{"system": "http://hl7.org/fhir/sid/icd-9-cm", "code": code}]}]
    if went:
        made["hospitalization"] = {"dischargeDisposition": {"coding": [{"system": NUBC, "code": went}]}}
    return made


def chart(*more: dict[str, Any], at: datetime = NOW, not_fetched: frozenset[str] = frozenset()) -> PatientRecord:
    stay = [] if "Encounter" in not_fetched else [encounter("now", BEGIN, None)]
    patient = {"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01"}
    return PatientRecord.from_resources([patient, *stay, *more], prediction_time=at, not_fetched=not_fetched)


def test_levels_look_back_from_the_prediction_time() -> None:
    values = {10: 100, 20: 110, 38: 90, 44: 80, 47: 70}
    found = series_inputs(chart(*(observation("8867-4", hour, value) for hour, value in values.items())))
    assert found["heart_rate.mean_6h"] == 75
    assert found["heart_rate.mean_12h"] == 80
    assert found["heart_rate.mean_before_24h"] == 105
    assert found["heart_rate.std"] == pytest.approx(np.std(list(values.values())))


def test_nothing_after_the_prediction_time_or_long_before_the_stay_counts() -> None:
    items = [observation("8867-4", hour, 100 + hour) for hour in (-30, -2, 5, 40)]
    found = series_inputs(chart(*items, at=BEGIN + timedelta(hours=12)))
    assert found["heart_rate.mean_12h"] == 105
    assert found["heart_rate.std"] == pytest.approx(3.5)


def test_a_ratio_takes_the_newest_partner_and_none_that_is_too_old() -> None:
    pressures = [observation("2703-7", 4, 80), observation("2703-7", 30, 60)]
    found = series_inputs(chart(observation("3150-6", 3, 50), *pressures))
    assert found["pao2_fio2.last"] == 160 == found["pao2_fio2.max"]
    later = series_inputs(chart(observation("3150-6", 40, 50), *pressures))
    assert later
    assert not any(name.startswith("pao2_fio2") for name in later)


def test_urine_is_a_rate_over_the_part_of_the_window_in_the_stay() -> None:
    amounts = [observation("9187-6", hour, 60.0) for hour in range(1, 11)]
    found = series_inputs(chart(*amounts, observation("29463-7", 0, 80), at=BEGIN + timedelta(hours=10)))
    assert found["urine_output.rate_24h"] == 60
    assert found["urine_output.rate_per_kg_24h"] == 0.75
    assert found["urine_output.rate_6h"] == 60


def test_waking_up_is_seen() -> None:
    found = series_inputs(chart(*(observation("9269-2", hour, score) for hour, score in ((2, 3), (20, 7), (40, 14)))))
    assert (found["gcs.change"], found["gcs.best_24h"], found["gcs.below_9"]) == (11, 14, pytest.approx(2 / 3))


def ventilated(hour: float) -> dict[str, Any]:
    code = {"coding": [{"system": "http://snomed.info/sct", "code": "40617009"}]}
    at = (BEGIN + timedelta(hours=hour)).isoformat()
    return SUBJECT | {
        "resourceType": "Procedure", "id": f"v{hour}", "status": "completed", "code": code, "performedDateTime": at,
    }  # fmt: skip


def test_one_entry_of_ventilation_does_not_say_how_long() -> None:
    assert "mechanical_ventilation.hours" not in series_inputs(chart(ventilated(3)))
    found = series_inputs(chart(ventilated(3), ventilated(20)))
    assert (found["mechanical_ventilation.hours"], found["mechanical_ventilation.hours_since"]) == (17, 28)


def test_without_a_stay_there_is_no_series() -> None:
    assert series_inputs(chart(observation("8867-4", 1, 80), not_fetched=frozenset({"Encounter"}))) == {}


@given(st.lists(st.tuples(st.floats(0, 72), st.floats(1, 200)), min_size=1, max_size=12), st.floats(0, 72))
def test_the_partner_in_time_is_the_one_a_plain_loop_finds(points: list[tuple[float, float]], ago: float) -> None:
    points = sorted(dict(points).items(), reverse=True)
    series = TimeSeries(np.array([p[0] for p in points]), np.array([p[1] for p in points]))
    candidates = [(hours, value) for hours, value in points if ago <= hours <= ago + 12]
    expected = min(candidates)[1] if candidates else np.nan
    np.testing.assert_equal(series.at(np.array([ago]))[0], expected)


def test_every_input_has_words_for_a_reader() -> None:
    for task in (IN_HOSPITAL_MORTALITY, READMISSION_30D):
        for name in input_names(task):
            concept = concept_of(name)
            assert label_of(concept) != concept
            assert "_" not in label_of(concept)
    names = series_names(tuple(definitions().concepts))
    assert len(names) == len(set(names))
    assert {f"{ratio}.last" for ratio in RATIOS} < set(names)
    assert all(f"gcs.{level}" in names for level in LEVELS)


def test_a_ratio_names_the_resources_of_both_its_parts() -> None:
    record = chart(observation("8867-4", 40, 100), observation("8480-6", 40, 80))
    assert row(record, ("shock_index.last",))[0] == 1.25
    found = sources(record, "shock_index.last", record.features())
    assert set(found) == {"Observation/o-8867-4-40", "Observation/o-8480-6-40"}


def test_earlier_stays_are_counted_and_compared_with_this_one() -> None:
    ended = BEGIN - timedelta(days=12)
    older = encounter("older", ended - timedelta(days=140), ended - timedelta(days=130), "250.00")
    last = encounter("last", ended - timedelta(days=4), ended, "427.1", "01")
    known = history(chart(older, last))
    assert known == {
        "earlier_stay.count": 2, "earlier_stay.within_30d": 1, "earlier_stay.close_together": 1,
        "earlier_stay.before_last_365d": 1, "earlier_stay.length": 4, "earlier_stay.to_home": 1,
        "earlier_stay.same_reason": 1,
    }  # fmt: skip
    assert set(known) == set(HISTORY)


def test_no_earlier_stay_differs_from_earlier_stays_not_fetched() -> None:
    assert history(chart()) == {"earlier_stay.count": 0, "earlier_stay.within_30d": 0}
    assert history(chart(not_fetched=frozenset({"Encounter"}))) == {}


def test_an_earlier_stay_without_reason_length_or_destination_leaves_them_unknown() -> None:
    moment = BEGIN - timedelta(days=100)
    plain = encounter("last", moment, moment)
    del plain["reasonCode"]
    assert set(HISTORY) - set(history(chart(plain))) == {
        "earlier_stay.length", "earlier_stay.to_home", "earlier_stay.same_reason",
    }  # fmt: skip


def test_a_long_problem_list_is_not_an_outlier() -> None:
    """Life-long problem lists of 20 entries were refused as unlike any training patient, whose form ended at 9."""
    problems = [
        SUBJECT | {"resourceType": "Condition", "id": f"c{n}", "code": {"text": f"Problem {n}"}} for n in range(20)
    ]
    record = chart(*problems)
    assert row(record, ("condition.count_up_to_9", "condition.count")).tolist() == [9, 20]
    assert len(sources(record, "condition.count_up_to_9", record.features())) == 20
    assert np.isnan(row(chart(not_fetched=frozenset({"Condition"})), ("condition.count_up_to_9",))[0])
