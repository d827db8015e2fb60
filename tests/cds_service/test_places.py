"""Where a stay is, from encounters that are not as they should be: unknown, and no fault."""

from __future__ import annotations

from typing import Any

import pytest

from cds_service.places import lacks_places, newest_first

PLACE = [{"location": {"reference": "Location/icu"}}]


@pytest.mark.parametrize(
    ("changed", "lacks"),
    [
        ({}, True),
        ({"period": []}, True),
        ({"period": "2026"}, True),
        ({"period": {"start": ["2026"]}}, True),
        ({"id": {"a": None}}, True),
        ({"id": []}, True),
        ({"partOf": ["Encounter/e"]}, True),
        ({"partOf": {"reference": 5}}, True),
        ({"location": {"location": {"reference": "Location/icu"}}}, False),
        ({"location": [None, 1, "Location/icu"]}, False),
        ({"location": [{"location": "Location/icu"}]}, False),
        ({"location": [{"location": {"reference": "Location/.."}}]}, False),
        ({"location": [{"location": {"reference": "Location/a/b?x"}}]}, False),
    ],
)
def test_an_odd_encounter_names_a_place_or_none(changed: dict[str, Any], lacks: bool) -> None:
    """A period that was a list was once our 500."""
    encounter = {"resourceType": "Encounter", "id": "e", "location": PLACE, "period": {"start": "2026-01-01"}} | changed
    bundle = {"resourceType": "Bundle", "entry": [{"resource": encounter}]}
    assert lacks_places({"encounters": bundle}, "e") is lacks


def test_stays_that_do_not_say_when_they_began_come_last() -> None:
    stays: list[dict[str, Any]] = [{"id": "a"}, {"id": "b", "period": {"start": "2025"}}, {"id": "c", "period": {}}]
    stays.append({"id": "d", "period": {"start": "2026"}})
    assert [stay["id"] for stay in newest_first(stays)] == ["d", "b", "a", "c"]
