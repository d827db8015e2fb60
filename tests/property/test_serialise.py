"""Texts for encoders: exact token budget, order and layout of the paper, no data after the prediction time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mapping import PatientRecord
from fhir_mapping.record.serialization import to_codes, to_markdown, tokens
from tests.fhir_mapping.record.test_cases import PATIENT, STAY, observation

AT = datetime(2024, 5, 10, 12, tzinfo=UTC)
MINE = {"subject": {"reference": "Patient/p"}}


def iso(hours: int) -> str:
    return (AT + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


@st.composite
def events(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Resources around the prediction time; the text of each has its time: `past 3` or `future 3`."""
    found: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 14))):
        hours = draw(st.integers(-3000, 3000).filter(bool))
        coded = {"code": {"text": f"{'future' if hours > 0 else 'past'} {number}"}, "id": f"r{number}", **MINE}
        kind = draw(st.sampled_from(["Condition", "Procedure", "MedicationRequest", "Encounter", "Observation"]))
        if kind == "Condition":
            found.append({"resourceType": kind, "recordedDate": iso(hours), **coded})
        elif kind == "Procedure":
            found.append({"resourceType": kind, "status": "completed", "performedDateTime": iso(hours), **coded})
        elif kind == "MedicationRequest":
            drug = {"medicationCodeableConcept": coded.pop("code")}
            found.append({"resourceType": kind, "status": "active", "authoredOn": iso(hours), **drug, **coded})
        elif kind == "Encounter":
            end = hours + draw(st.integers(1, 2000))
            reason = {"reasonCode": [{"text": coded.pop("code")["text"]}]}
            period = {"period": {"start": iso(hours), "end": iso(end)}}
            found.append(STAY | {"status": "finished", **period, **reason, **coded})
        else:
            found.append(observation(value=draw(st.integers(120, 150)), id=f"r{number}", effectiveDateTime=iso(hours)))
    return found


def record(resources: list[dict[str, Any]]) -> PatientRecord:
    return PatientRecord.from_resources([PATIENT, *resources], prediction_time=AT)


@settings(max_examples=80, deadline=None)
@given(events())
def test_nothing_after_the_prediction_time_is_in_a_text(chart: list[dict[str, Any]]) -> None:
    found = record(chart)
    for text in (found.to_markdown(10**6), found.to_codes(10**6)):
        assert "future" not in text
        assert "2024-05" not in text
    for stay in found.stays:
        assert stay.end is None or stay.end <= AT


@settings(max_examples=60, deadline=None)
@given(events(), st.integers(1, 5000), st.integers(1, 5000))
def test_the_end_of_a_running_stay_is_not_in_a_text(chart: list[dict[str, Any]], first: int, second: int) -> None:
    """The texts do not depend on the later end of the stay."""

    def text(hours: int) -> tuple[str, str]:
        period = {"start": iso(-30), "end": iso(hours)}
        found = record([*chart, STAY | {"id": "now", "status": "finished", "period": period}])
        return found.to_markdown(10**6), found.to_codes(10**6)

    assert text(first) == text(second)
    assert "Current visit" in text(first)[0]


@settings(max_examples=80, deadline=None)
@given(events(), st.integers(1, 600), st.sampled_from([tokens, len, lambda text: len(re.findall(r"\w+|\W", text))]))
def test_texts_use_the_token_budget(chart: list[dict[str, Any]], budget: int, count: Any) -> None:
    found = record(chart)
    for form in (to_markdown, to_codes):
        whole, cut = form(found, 10**9, count), form(found, budget, count)
        assert count(cut) <= budget
        assert whole.startswith(cut)
        rest = whole[len(cut) :]
        if cut and rest.startswith("\n"):  # one line more would be too much
            assert count(cut + "\n" + rest[1:].split("\n", 1)[0]) > budget


HEADINGS = [
    "# Electronic Healthcare Record",
    "## Demographics",
    "## Recent body metrics",
    "## Recent vital signs",
    "## Recent lab results",
    "## Past visits",
    "## Events outside visits",
]


def test_the_layout_is_that_of_the_paper() -> None:
    text = record([STAY, observation(effectiveDateTime=iso(-2))]).to_markdown()
    assert [line for line in text.splitlines() if line.startswith(("# ", "## "))] == HEADINGS
    concepts = text[text.index("## Recent body") : text.index("## Past visits")]
    assert sum(line.startswith("- ") for line in concepts.splitlines()) == 24
    assert "Current time: 2024-01-01" in text
    assert "- Heart rate (/min): No recent data" in text


@pytest.mark.parametrize(
    ("birth", "shown"),
    [("1950-02-03", "150 (high), 140 (normal), 130 (low)"), ("2015-02-03", "150, 140, 130"), (None, "150, 140, 130")],
)
def test_the_last_three_values_have_low_high_flags_for_adults_only(birth: str | None, shown: str) -> None:
    values = [
        observation(value=value, id=f"o{value}", effectiveDateTime=iso(value - 200)) for value in (125, 130, 140, 150)
    ]
    patient = {k: v for k, v in PATIENT.items() if k != "birthDate"} | ({"birthDate": birth} if birth else {})
    text = PatientRecord.from_resources([patient, *values], prediction_time=AT).to_markdown()
    line = next(line for line in text.splitlines() if line.startswith("- Sodium"))
    assert line.endswith(f": {shown}")


def test_codes_are_newest_first_and_unique_by_description() -> None:
    def condition(name: str, hours: int, id: str) -> dict[str, Any]:
        return {"resourceType": "Condition", "id": id, "code": {"text": name}, "recordedDate": iso(hours), **MINE}

    chart = [condition("asthma", -500, "a"), condition("gout", -90, "b"), condition("asthma", -40, "c")]
    assert record(chart).to_codes().splitlines() == ["asthma", "gout"]
    assert record(chart[::-1]).to_codes() == record(chart).to_codes()
