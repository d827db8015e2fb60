"""Mappings of local codes: what is taken, what is refused with which reason, and what is a conflict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from fhir_mapping import InvalidInputError
from fhir_mapping.site_maps import LocalCodes, SiteMapImport, check_document, imported, read_mappings
from fhir_mapping.site_maps.site_map import parse

LAB = "urn:hospital:lab"
LOINC = "http://loinc.org"


def concept_map(*targets: Mapping[str, Any], code: str = "NA", target: str | None = LOINC, **element: Any) -> bytes:
    group = {"source": LAB, "element": [{"code": code, "target": list(targets), **element}]}
    return orjson.dumps({"resourceType": "ConceptMap", "group": [group | ({"target": target} if target else {})]})


def run(raw: bytes, existing: Mapping[str, Any] | None = None, **options: Any) -> SiteMapImport:
    reading = {name: options.pop(name) for name in ("system", "source") if name in options}
    result = imported(read_mappings(raw, "file", **reading), existing or {"name": "site"}, **options)
    check_document(result.document, "site.yaml")
    return result


def items(result: SiteMapImport) -> dict[str, Any]:
    return {code: item for group in result.document.get("observations", []) for code, item in group["items"].items()}


@pytest.mark.parametrize("relation", [{"equivalence": "equal"}, {"equivalence": "equivalent"},
                                      {"relationship": "equivalent"}])  # fmt: skip
def test_codes_that_mean_the_same_are_taken(relation: dict[str, str]) -> None:
    assert items(run(concept_map({"code": "2951-2"} | relation))) == {"NA": "2951-2"}


REFUSED = [
    ({"equivalence": "wider"}, "wider"),
    ({"equivalence": "subsumes"}, "wider"),
    ({"relationship": "source-is-narrower-than-target"}, "wider"),
    ({"equivalence": "narrower"}, "narrower"),
    ({"equivalence": "specializes"}, "narrower"),
    ({"relationship": "source-is-broader-than-target"}, "narrower"),
    ({"equivalence": "relatedto"}, "relatedto"),
    ({"equivalence": "inexact"}, "inexact"),
    ({"equivalence": "unmatched"}, "unmatched"),
    ({"equivalence": "disjoint"}, "disjoint"),
    ({"relationship": "not-related-to"}, "not-related-to"),
    ({"relationship": "related-to"}, "related-to"),
    ({"equivalence": "same"}, "relation-not-understood"),
    ({}, "relation-not-understood"),
    ({"equivalence": "equal", "code": "2951-22"}, "not-a-loinc-code"),
    ({"equivalence": "equal", "code": "99999-1"}, "loinc-not-used"),
    ({"equivalence": "equal", "code": None}, "no-target"),
    ({"equivalence": "equal", "dependsOn": [{"property": "x", "value": "y"}]}, "depends-on-context"),
]


@pytest.mark.parametrize(("target", "reason"), REFUSED)
def test_others_are_refused_with_a_reason(target: dict[str, Any], reason: str) -> None:
    result = run(concept_map({"code": "2951-2"} | target))
    assert (dict(result.refused), result.taken) == ({reason: 1}, 0)


def test_wider_targets_are_taken_only_if_asked_for() -> None:
    raw = concept_map({"code": "2951-2", "equivalence": "wider"})
    assert items(run(raw, wider=True)) == {"NA": "2951-2"}
    assert not items(run(concept_map({"code": "2951-2", "equivalence": "narrower"}), wider=True))


def test_elements_without_a_map_are_counted() -> None:
    assert run(concept_map(noMap=True)).refused == {"no-target": 1}
    assert run(concept_map(code="")).refused == {"no-code": 1}


def test_versions_of_systems_do_not_matter_and_other_systems_are_codes() -> None:
    raw = concept_map({"code": "2951-2", "equivalence": "equal"}, target=f"{LOINC}|2.77")
    assert items(run(raw)) == {"NA": "2951-2"}
    disposition = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
    raw = concept_map({"code": "exp", "equivalence": "equal"}, code="DEAD", target=disposition)
    assert run(raw).document["codes"] == [{"from": LAB, "to": disposition, "items": {"DEAD": "exp"}}]


def test_two_meanings_are_a_conflict_and_none_is_taken() -> None:
    both = ({"code": "2951-2", "equivalence": "equal"}, {"code": "2823-3", "equivalence": "equal"})
    result = run(concept_map(*both))
    assert (result.taken, len(result.conflicts)) == (0, 1)
    assert "2951-2" in result.conflicts[0]
    assert "2823-3" in result.conflicts[0]


def test_the_site_map_keeps_its_meaning_unless_replaced() -> None:
    existing = {"name": "site", "observations": [{"systems": [LAB], "items": {"NA": "potassium", "K": "potassium"}}]}
    raw = concept_map({"code": "2951-2", "equivalence": "equal"})
    result = run(raw, existing)
    assert items(result)["NA"] == "potassium"
    assert result.conflicts == [f"{LAB}|NA is potassium in the site map and 2951-2 in the file"]
    assert items(run(raw, existing, replace=True)) == {"NA": "2951-2", "K": "potassium"}
    known = run(concept_map({"code": "2823-3", "equivalence": "equal"}, code="K"), existing)
    assert (known.known, known.taken, known.conflicts) == (1, 0, [])


def translation(code: str = "2951-2", relation: str = "equivalence", value: str = "equivalent") -> dict[str, Any]:
    parts = [
        {"name": relation, "valueCode": value},
        {"name": "concept", "valueCoding": {"system": LOINC, "code": code}},
    ]
    return {"resourceType": "Parameters",
            "parameter": [{"name": "result", "valueBoolean": True}, {"name": "match", "part": parts}]}  # fmt: skip


def test_a_translation_names_its_question_by_option_or_by_the_url_of_its_entry() -> None:
    raw = orjson.dumps(translation())
    assert items(run(raw, source=f"{LAB}|NA")) == {"NA": "2951-2"}
    with pytest.raises(InvalidInputError, match="--source"):
        run(raw)
    entries = [
        {"fullUrl": f"https://tx.example/ConceptMap/$translate?system={LAB}&code=NA", "resource": translation()},
        {"link": [{"relation": "self", "url": f"https://tx.example/$translate?system={LAB}&sourceCode=K"}],
         "resource": translation("2823-3", "relationship", "source-is-broader-than-target")},
        {"fullUrl": f"https://tx.example/$translate?system={LAB}&code=X",
         "resource": {"resourceType": "Parameters", "parameter": [{"name": "result", "valueBoolean": False}]}},
    ]  # fmt: skip
    result = run(orjson.dumps({"resourceType": "Bundle", "type": "batch-response", "entry": entries}))
    assert (items(result), dict(result.refused)) == ({"NA": "2951-2"}, {"narrower": 1, "no-target": 1})


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_with_units(separator: str) -> None:
    rows = [("Code", "LOINC", "Name", "Unit"), ("NA", "2951-2", "Sodium", "mmol/L"), ("K", "2823-3", "", ""),
            ("CR", "2160-0", "Creatinine", "mg/dL"), ("X", "2160-0", "", "mmHg"), ("Y", "", "", "")]  # fmt: skip
    raw = "\ufeff" + "\r\n".join(separator.join(row) for row in rows)
    result = run(raw.encode(), system=LAB)
    assert items(result) == {
        "NA": {"concept": "2951-2", "unit": "mmol/L"}, "K": "2823-3", "CR": {"concept": "2160-0", "unit": "mg/dL"},
    }  # fmt: skip
    assert dict(result.refused) == {"unit-not-convertible": 1, "no-target": 1}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a,b\n1,2\n", "columns code and loinc"),
        (b"code,loinc\nNA,2951-2\n", "--system"),
        (b"code,loinc\nN\xff,2951-2\n", "UTF-8"),
        (b'{"resourceType": "Patient"}', "neither a ConceptMap"),
        (b"[]", "neither a ConceptMap"),
        (b"", "columns code and loinc"),
    ],
)
def test_what_is_no_mapping_says_what_is_expected(raw: bytes, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        read_mappings(raw, "file")


def test_an_imported_map_translates_as_a_written_one() -> None:
    result = run(concept_map({"code": "2951-2", "equivalence": "equal"}))
    observation = {"resourceType": "Observation", "code": {"coding": [{"system": LAB, "code": "NA"}]}}
    coding = (
        parse(result.document, "site.yaml").over(parse({"name": "x"}, "x")).translate(observation)["code"]["coding"]
    )
    assert coding[0] == {"system": LOINC, "code": "2951-2"}


def observed(code: str, name: str, value: float | None, unit: str | None) -> dict[str, Any]:
    quantity = {} if value is None else {"valueQuantity": {"value": value} | ({"unit": unit} if unit else {})}
    coding = {"system": LAB, "code": code, "display": name}
    return {"resourceType": "Observation", "status": "final", "code": {"coding": [coding]}} | quantity


PROPOSED = [
    ("Sodium, serum", [136, 141, 128], "mmol/L", "sodium", True),
    ("Creatinine", [80, 130], "umol/L", "creatinine", True),
    ("HGB", [9.8, 13.1], "g/dL", "hemoglobin", True),
    ("Sodium", [136, 141], None, "sodium", False),  # no unit
    ("Sodium", [5, 9, 12], "mmol/L", "sodium", False),  # not plausible
    ("Sodium, urine", [40, 60], "mmol/L", None, False),
    ("Lactate dehydrogenase", [180, 200], "U/L", "ldh", True),
    ("Creatinine clearance", [60, 90], "mL/min", None, False),
    ("Frobnicate", [1, 2], "mg/dL", None, False),
]


@pytest.mark.parametrize(("name", "values", "unit", "concept", "clear"), PROPOSED)
def test_proposals_by_name_unit_and_range(
    name: str, values: list[float], unit: str | None, concept: str | None, clear: bool
) -> None:
    codes = LocalCodes()
    for value in values:
        codes.add(observed("X1", name, value, unit))
    (proposal,) = codes.proposals()
    assert (proposal.concept, proposal.clear, proposal.count) == (concept, clear, len(values))
    assert proposal.reasons


def test_codes_with_a_standard_coding_or_a_site_map_are_left_out() -> None:
    codes = LocalCodes(parse({"name": "s", "observations": [{"systems": [LAB], "items": {"K": "potassium"}}]}, "s").over(
        parse({"name": "x"}, "x")))  # fmt: skip
    codes.add(observed("K", "Potassium", 4, "mmol/L"))
    codes.add({"resourceType": "Observation", "code": {"coding": [{"system": LOINC, "code": "2951-2"}]}})
    codes.add({"resourceType": "Observation", "code": {"text": "Sodium"}})
    codes.add({"resourceType": "Observation", "code": {"coding": [{"system": None, "code": 3}, "x"]}})
    assert codes.proposals() == []
