"""Golden cases: chart in, hook fired as an EHR fires it, answer compared as parsed JSON.

`make golden` regenerates the answers; the difference is reviewed by a person.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from flask import Flask

from tests.end_to_end.golden import answer, cases, make_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return make_app(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_answer_is_the_reviewed_one(app: Flask, case: Path) -> None:
    expected = json.loads((case / "expected.json").read_text("utf-8"))
    assert answer(app, case) == expected


def test_nothing_after_the_prediction_time_shows(app: Flask) -> None:
    """The sepsis chart holds a sodium of 120 on day five and a progress note; the card of day one may know neither."""
    said = json.dumps(answer(app, next(case for case in cases() if case.name == "sepsis-icu-first-day")))
    assert not re.search(r"\b120 mmol", said)
    assert "2024-02-14" not in said
    assert "2024-02-15" not in said


def test_an_error_is_never_an_empty_card_list(app: Flask) -> None:
    for name in ("foreign-result-stops", "encounters-missing"):
        got = answer(app, next(case for case in cases() if case.name == name))
        assert got["status"] >= 400
        assert got["body"]["resourceType"] == "OperationOutcome"
        assert got["body"]["issue"][0]["diagnostics"]


def test_no_two_examples_share_an_id() -> None:
    """Loaded onto one server, the examples overwrote each other."""
    owners: dict[str, str] = {}
    for case in cases():
        for entry in json.loads((case / "bundle.json").read_text("utf-8"))["entry"]:
            name = f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
            assert entry["fullUrl"].endswith(f"/{name}")
            assert owners.setdefault(name, case.name) == case.name, f"{name}: {owners[name]} and {case.name}"
