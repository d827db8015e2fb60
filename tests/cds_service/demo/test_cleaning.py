"""The demo's charts hang together: no clinic visit during a stay, no internal name, no chore as a problem."""

from __future__ import annotations

import gzip
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from cds_service.demo.ward.cleaning import cleaned

CHARTS = sorted(Path(str(files("cds_service.demo").joinpath("patients"))).glob("*.json.gz"))


def resources_of(path: Path) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in json.loads(gzip.decompress(path.read_bytes()))["entry"]]


def an_encounter(name: str, kind: str, start: str, end: str | None = None, **more: Any) -> dict[str, Any]:
    period = {"start": start} | ({"end": end} if end else {})
    return {"resourceType": "Encounter", "id": name, "class": {"code": kind}, "period": period,
            "subject": {"reference": "Patient/p"}, **more}  # fmt: skip


def in_encounter(kind: str, name: str, encounter: str) -> dict[str, Any]:
    place = {"context": {"encounter": [{"reference": f"Encounter/{encounter}"}]}}
    own = place if kind == "DocumentReference" else {"encounter": {"reference": f"Encounter/{encounter}"}}
    return {"resourceType": kind, "id": name, **own}


STAY = an_encounter("stay", "IMP", "2026-03-08T23:00:00Z", "2026-03-12T10:00:00Z")


@pytest.mark.parametrize(
    ("kind", "start", "stays"),
    [
        ("AMB", "2026-03-09T10:00:00Z", False),
        ("AMB", "2026-03-08T23:00:00Z", False),
        ("AMB", "2026-03-08T10:00:00Z", True),
        ("AMB", "2026-03-12T10:00:00Z", True),
        ("EMER", "2026-03-09T10:00:00Z", True),
    ],
)
def test_a_visit_during_a_stay_goes_with_all_that_was_recorded_in_it(kind: str, start: str, stays: bool) -> None:
    """A clinic's vital signs once stood among those of intensive care and moved an estimate from 22 to 17 %."""
    visit = an_encounter("visit", kind, start, start)
    inside = [in_encounter(what, f"v-{what}", "visit") for what in ("Observation", "DocumentReference", "Condition")]
    own = [in_encounter("Observation", "s-1", "stay"), {"resourceType": "Observation", "id": "none"}]
    kept = [resource["id"] for resource in cleaned([STAY, visit, *inside, *own])]
    assert ("visit" in kept) is stays
    assert ("v-Observation" in kept) is stays
    assert ("v-DocumentReference" in kept) is stays
    assert {"stay", "s-1", "none"} <= set(kept)


def test_a_visit_during_a_running_stay_goes_too() -> None:
    running, visit = an_encounter("stay", "IMP", "2026-03-08T23:00:00Z"), an_encounter("v", "AMB", "2026-03-09")
    assert [r["id"] for r in cleaned([running, visit])] == ["stay"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("snf_reason", "Rehabilitation after an injury"), ("Knee_Injury", "Knee injury"), ("Sepsis", "Sepsis"),
     ("some_new_attribute", None)],
)  # fmt: skip
def test_an_internal_name_is_no_reason(text: str, words: str | None) -> None:
    (found,) = cleaned([an_encounter("e", "AMB", "2026-01-01", reasonCode=[{"text": text}])])
    assert found.get("reasonCode") == (None if words is None else [{"text": words}])


def a_problem(name: str, text: str) -> dict[str, Any]:
    return {"resourceType": "Condition", "id": name, "clinicalStatus": {"coding": [{"code": "active"}]},
            "code": {"text": text}}  # fmt: skip


def test_chores_and_facts_of_life_are_no_problems_and_a_problem_is_listed_once() -> None:
    problems = ["Medication review due (situation)", "Received higher education (finding)", "Refugee (person)",
                "Diabetes mellitus type 2 (disorder)", "Diabetes mellitus type 2 (disorder)",
                "Chronic pain (finding)"]  # fmt: skip
    kept = cleaned([a_problem(str(n), text) for n, text in enumerate(problems)])
    assert [problem["code"]["text"] for problem in kept] == ["Diabetes mellitus type 2", "Chronic pain"]


def test_what_visits_are_for_is_on_the_problem_list() -> None:
    icd = {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "I10", "display": "Essential (primary) hypertension"}
    visits = [an_encounter(f"v{n}", "AMB", f"2026-0{n}-01", reasonCode=[{"coding": [icd]}]) for n in (1, 2)]
    added = [r for r in cleaned(visits) if r["resourceType"] == "Condition"]
    assert [(c["code"]["text"], c["onsetDateTime"]) for c in added] == [(icd["display"], "2026-01-01")]
    assert cleaned([*visits, *added]) == [*visits, *added]


@pytest.mark.parametrize("path", CHARTS, ids=lambda path: path.name)
def test_every_shipped_chart_is_clean(path: Path) -> None:
    resources = resources_of(path)
    assert cleaned(resources) == resources
    for encounter in (r for r in resources if r["resourceType"] == "Encounter"):
        for reason in encounter.get("reasonCode", ()):
            assert not re.search(r"\w_\w", json.dumps(reason)), reason
