"""What several inputs lack together: pages, totals, withheld results, other patients; and what informs only."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from fhir_mapping import ForeignPatientError, PatientRecord
from fhir_mapping.parsing import ParsedInput, read_bytes
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY, observation

Resource = dict[str, Any]
SUBJECT = {"subject": {"reference": "Patient/p"}}


def condition(identifier: str, **more: Any) -> Resource:
    return {"resourceType": "Condition", "id": identifier, "code": {"text": identifier}, **SUBJECT, **more}


def searchset(*resources: Resource, **more: Any) -> Resource:
    entries = [{"resource": r, "search": {"mode": "match"}} for r in resources]
    return {"resourceType": "Bundle", "type": "searchset", "entry": entries, **more}


def outcome(*issues: Resource, **entry: Any) -> Resource:
    return {"resource": {"resourceType": "OperationOutcome", "issue": list(issues)}, **entry}


def merged(*files: Any, patient: str | None = "p") -> PatientRecord:
    parts = [read_bytes(item if isinstance(item, bytes) else orjson.dumps(item)) for item in files]
    return PatientRecord.from_parsed(ParsedInput.merged(parts), patient, AT)


INFORMS, WARNS = {"severity": "information", "code": "informational"}, {"severity": "warning", "code": "not-supported"}
ISSUES: list[tuple[str, list[Resource], bool]] = [
    ("information", [INFORMS], True),
    ("a parameter that was ignored", [WARNS], True),
    ("no results", [{"severity": "warning", "code": "not-found"}], True),
    ("R5: success", [{"severity": "success", "code": "success"}], True),
    ("an error", [{"severity": "error", "code": "processing"}], False),
    ("information and an error", [INFORMS, {"severity": "fatal", "code": "exception"}], False),
    ("results withheld", [{"severity": "warning", "code": "suppressed"}], False),
    ("results withheld, as information", [{"severity": "information", "code": "incomplete"}], False),
    ("a source timed out", [{"severity": "warning", "code": "timeout"}], False),
    ("not authorised for a part", [{"severity": "warning", "code": "forbidden"}], False),
    ("no issue", [], False),
    ("no severity", [{"code": "informational"}], False),
]


@pytest.mark.parametrize("mode", [{"search": {"mode": "outcome"}}, {}])
@pytest.mark.parametrize(("name", "issues", "fetched"), ISSUES, ids=[row[0] for row in ISSUES])
def test_an_outcome_beside_matches(name: str, issues: list[Resource], fetched: bool, mode: Resource) -> None:
    """An information such as "_sort was ignored" made the whole type "not fetched"."""
    found = searchset(condition("c"), total=1)
    found["entry"].append(outcome(*issues, **mode))
    record = merged([PATIENT, found])
    assert ("Condition" not in record.not_fetched) is fetched
    assert record.features().number("condition.count") == (1.0 if fetched else None)
    assert ("operation-outcome" in {r.reason for r in record.refused}) is not fetched


def test_a_failed_batch_entry_is_a_failure_whatever_it_says() -> None:
    failed = outcome(INFORMS, response={"status": "403 Forbidden"})
    bundle = {"resourceType": "Bundle", "type": "batch-response", "entry": [{"resource": condition("c")}, failed]}
    assert "Condition" in merged([PATIENT, bundle]).not_fetched


URL = "https://ehr.example/fhir/Condition?page="


def page(number: int, resource: Resource, *, last: int = 2, **more: Any) -> Resource:
    links = [{"relation": "self", "url": f"{URL}{number}"}]
    links += [{"relation": "next", "url": f"{URL}{number + 1}"}] if number < last else []
    return searchset(resource, link=links, **more)


@pytest.mark.parametrize("form", ["files", "list"])
def test_pages_given_together_are_complete(form: str) -> None:
    first, second = page(1, condition("a"), total=2), page(2, condition("b"), total=2)

    def read(*bundles: Resource) -> PatientRecord:
        return merged([PATIENT, *bundles]) if form == "list" else merged(PATIENT, *bundles)

    for order in ((first, second), (second, first)):
        assert read(*order).features().number("condition.count") == 2.0
        assert not read(*order).refused
    assert read(first).features().unknown["condition.count"] == "not-fetched"
    assert [r.reason for r in read(first).refused] == ["more-pages"]
    assert [r.reason for r in read(second).refused] == ["truncated"]
    fewer = page(1, condition("a"), total=3), page(2, condition("b"), total=3)
    assert read(*fewer).features().unknown["condition.count"] == "not-fetched"
    other = page(1, STAY, last=2)  # pages of another search do not complete this one
    assert "Encounter" in read(other | {"link": [{"relation": "next", "url": "https://x/2"}]}, second).not_fetched


def test_a_failure_is_not_mended_by_the_other_pages() -> None:
    first, second = page(1, condition("a")), page(2, condition("b"))
    second["entry"].append(outcome({"severity": "error", "code": "exception"}))
    assert "Condition" in merged(PATIENT, first, second).not_fetched


def test_pages_that_lead_in_a_circle_end() -> None:
    first, second = page(1, condition("a")), page(2, condition("b"), last=3)
    second["link"][1]["url"] = f"{URL}1"
    assert "Condition" in merged(PATIENT, first, second).not_fetched


def lines(*resources: Resource) -> bytes:
    return b"\n".join(map(orjson.dumps, resources))


def test_a_population_in_several_files() -> None:
    other = {"subject": {"reference": "Patient/q"}}
    patients, conditions = lines(PATIENT, PATIENT | {"id": "q"}), lines(condition("a"), condition("b") | other)
    assert [c.source for c in merged(patients, conditions).conditions] == ["Condition/a"]
    # Control: Bundles of two patients are a mix-up, and no population.
    with pytest.raises(ForeignPatientError):
        merged(PATIENT, searchset(condition("b") | other))


def test_lines_that_are_bundles() -> None:
    """Every line of such a file was read as a resource that nothing uses."""
    both = [searchset(PATIENT, condition("a"), total=2), searchset(PATIENT | {"id": "q"}, total=1)]
    assert merged(lines(*both)).features().number("condition.count") == 1.0
    assert "Condition" in merged(lines(searchset(PATIENT, condition("a"), total=7), both[1])).not_fetched


ACCOUNT: Resource = {"resourceType": "Account", "id": "a", "status": "active"}


def test_a_resource_with_several_subjects() -> None:
    spouse = {"reference": "Patient/spouse"}
    account = ACCOUNT | {"subject": [{"reference": "Patient/p"}, spouse]}
    assert merged([PATIENT, account, observation()]).features().number("sodium.last") == 140
    two = observation(subject=[spouse, {"reference": "Patient/p"}])
    found = merged([PATIENT, two])
    assert found.features().unknown["sodium.last"] == "several-subjects"
    for foreign in (ACCOUNT | {"subject": [spouse]}, observation(subject=[spouse, spouse])):
        with pytest.raises(ForeignPatientError):
            merged([PATIENT, foreign])
