"""What one stay or row does to those after it: nothing."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from risk_model.labels.labelling import Excluded, Labelled, label
from risk_model.labels.task_definitions import find_definition
from risk_model.labels.timeline import PatientTimeline
from tests.risk_model.labels.test_labelling import answers, day, lab, stay, visit


@pytest.mark.parametrize(
    ("name", "definition", "first", "reason"),
    [
        ("not eligible", "cms-hwr", {"left": "exp"}, None),
        ("still in hospital", "any-inpatient-30d", {}, "still in hospital"),
    ],
)
def test_stays_after_one_without_a_row_keep_theirs(
    name: str, definition: str, first: dict[str, Any], reason: str | None
) -> None:
    """A stay that gives no row is one exclusion: the rows of all others stand, before and after it."""
    listed = [stay("a", 0, 3), stay("b", 100, 103), stay("c", 200, 203), visit(300)]
    whole = answers(listed, "readmission_30d", definition)
    assert [whole[key] for key in "abc"] == [0, 0, 0], name
    for key, begin in (("a", 0), ("b", 100), ("c", 200)):
        changed = [r for r in listed if r["id"] != key]
        changed.append(stay(key, begin, None if reason else begin + 3, **first))
        found = answers(changed, "readmission_30d", definition)
        assert set(found) == {"a", "b", "c"}
        if reason is None:
            assert isinstance(found[key], str), found
            assert [found[other] for other in "abc" if other != key] == [0, 0]


def test_a_death_recorded_before_a_stay_excludes_that_stay_only() -> None:
    listed = [stay("a", 0, 3), stay("b", 100, 103), visit(300)]
    died = {"deceasedDateTime": day(50)}
    found = answers(listed, "readmission_30d", "any-inpatient-30d", died)
    assert (found["a"], found["b"]) == (0, "died before the stay")
    found = answers(listed, "in_hospital_mortality", "in-hospital-death", died)
    assert (found["a"], found["b"]) == (0, "died before the stay")
    later = answers(listed, "readmission_30d", "any-inpatient-30d", {"deceasedDateTime": day(103.5)})
    assert (later["a"], later["b"]) == (0, 0)


def test_stays_after_one_with_an_unknown_label_keep_theirs() -> None:
    """Whether the first return was avoidable is unknown where nothing says why; the second stay has its own answer."""
    uncoded = {k: v for k, v in stay("b", 20, 22).items() if k != "reasonCode"}
    found = answers([stay("a", 0, 3), uncoded, stay("c", 200, 203), visit(300)], "readmission_30d", "hospital-score")
    assert (found["a"], found["b"], found["c"]) == ("label unknown", 0, 0)


def test_why_a_stay_has_no_discharge() -> None:
    ended = stay("a", 0, None) | {"status": "finished"}
    found = answers([ended, visit(300)], "readmission_30d", "any-inpatient-30d")
    assert found["a"] == "end of the stay unknown"
    assert answers([stay("a", 0, None)], "readmission_30d", "any-inpatient-30d")["a"] == "still in hospital"


@pytest.mark.parametrize(
    ("end", "left", "expected"),
    [(0.5, "home", "left before the prediction"), (1, "home", "left before the prediction"), (1.01, "home", 0),
     (1, "exp", "died before the prediction"), (1.01, "exp", 1)],
)  # fmt: skip
def test_a_stay_that_ends_with_the_first_day_has_no_prediction(end: float, left: str, expected: Any) -> None:
    found = answers([stay("a", 0, end, left=left), stay("b", 100, 103)], "in_hospital_mortality", "in-hospital-death")
    assert (found["a"], found["b"]) == (expected, 0)


@pytest.mark.parametrize(
    ("minutes", "expected"), [(-600, "before the first encounter"), (1, "before the first encounter"), (2, 0), (600, 0)]
)
def test_no_prediction_before_the_first_encounter(minutes: int, expected: Any) -> None:
    """A laboratory task predicts a minute before its measurement; the one after it keeps its row."""
    measured = [lab(minutes / 1440, "718-7", 14, "g/dL"), lab(2, "718-7", 14, "g/dL")]
    person = {"resourceType": "Patient", "id": "p"}
    found = [
        answer.reason if isinstance(answer, Excluded) else answer.label
        for answer in label(
            find_definition("anemia"), PatientTimeline.of([person, stay("a", 0, 5), *measured], "p"), UTC
        )
    ]
    assert found == [expected, 0]
    without = PatientTimeline.of([person, *measured], "p")
    assert all(isinstance(answer, Labelled) for answer in label(find_definition("anemia"), without, UTC))
