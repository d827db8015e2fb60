"""Deadlines of an answer, and answers of which a part was left out: those are never taken from the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cds_service.hooks import hook_call
from cds_service.hooks.hook_call import Due
from risk_model import Pipeline
from tests.cds_service.hooks.test_assessment_cache import make
from tests.contract.conftest import whole_request
from tests.patience import patient_settings

CASE = "diabetic-heart-failure-discharge"


@pytest.fixture(scope="module")
def shipped() -> Pipeline:
    return Pipeline.shipped()


@pytest.mark.parametrize(("seconds", "spent"), [(10, 0), (10, 4), (2, 0), (10, 12)])
def test_the_deadlines_follow_one_another_and_count_what_is_spent(
    seconds: float, spent: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """65 % of the time for fetching, 85 % until the assessment ends, from when the request came."""
    monkeypatch.setattr(hook_call, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    due = Due.of(patient_settings({"RISKCARDS_DEADLINE_SECONDS": str(seconds)}), spent)
    came = 1000.0 - spent
    expected = [came + share * seconds for share in (0.65, 0.85, 1.0)]
    assert [due.fetched, due.assessed, due.answered] == pytest.approx(expected)


@pytest.mark.parametrize(("cut", "assessed"), [((), 2), ((0,), 4), ((1,), 4), ((0, 1), 4)])
def test_an_answer_with_any_part_left_out_is_assessed_anew(
    shipped: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: tuple[int, ...], assessed: int
) -> None:
    """One of the two tasks of a card had no time for its literature: the next request gets it."""
    seen: list[str] = []
    assess = shipped.assess

    def partly(record: Any, task: str, *rest: Any) -> Any:
        place = len(seen) % 2
        seen.append(task)
        found = assess(record, task, *rest)
        return replace(found, left_out=("literature",)) if place in cut else found

    monkeypatch.setattr(shipped, "assess", partly)
    client = make(shipped, tmp_path).test_client()
    request = whole_request(CASE) | {"hook": "patient-view"}
    for number in range(2):
        answer = client.post(
            "/cds-services/hospital-risk", json=request | {"hookInstance": f"{number:08}-0000-4000-8000-000000000000"}
        )
        assert answer.status_code == 200, answer.text
        assert len(answer.get_json()["cards"]) == 1
    assert len(set(seen)) == 2
    assert len(seen) == assessed
