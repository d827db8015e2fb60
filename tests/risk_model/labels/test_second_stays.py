"""What one stay or row does to those after it: nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.risk_model.labels.test_labelling import answers, day, stay, visit


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
