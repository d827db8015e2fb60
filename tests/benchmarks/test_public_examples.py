"""The share of usable values in published examples: what counts as usable and as used."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.public_examples import measure, usable

XML = """<Observation xmlns="http://hl7.org/fhir"><id value="x"/><status value="final"/>
<code><coding><system value="http://loinc.org"/><code value="8867-4"/><display value="Heart rate"/></coding></code>
<subject><reference value="Patient/1"/></subject><effectiveDateTime value="2024-05-01"/>
<valueQuantity><value value="80"/><unit value="/min"/></valueQuantity></Observation>"""


def sodium(identifier: str, code: str, **more: object) -> dict[str, object]:
    return {
        "resourceType": "Observation",
        "id": identifier,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": "Sodium [Moles/volume]"}]},
        "valueQuantity": {"value": 140, "unit": "mmol/L"},
        **more,
    }


def test_used_and_not_used_values_of_a_collection(tmp_path: Path) -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "Electrolytes"},
        "issued": "2024-05-01T10:00:00Z",
        "result": [{"reference": "Observation/by-report"}],
    }
    entries = [
        report,
        sodium("by-report", "2951-2"),
        sodium("unknown-code", "99999-9", effectiveDateTime="2024-05-01"),
        sodium("in-error", "2951-2", status="entered-in-error"),
        sodium("no-time", "2951-2"),
    ]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": entry} for entry in entries]}
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    (tmp_path / "observation.xml").write_text(XML)
    (tmp_path / "broken.json").write_text("{")
    found = measure(tmp_path)
    assert (found["usable"], found["used"]) == (4, 2)
    assert found["not_used"] == {"sodium: http://loinc.org#99999-9": 1, "sodium: no-time": 1}


def test_other_specimens_places_and_absent_values_are_not_usable() -> None:
    value = {"valueQuantity": {"value": 1, "unit": "mmol/L"}}
    for text in (
        "Sodium in urine",
        "Left ventricular systolic pressure",
        "Glucose 2 hours post 75 g",
        "Goal body weight",
    ):
        assert usable({"status": "final", "code": {"text": text}, **value}) == []
    assert usable({"status": "final", "code": {"text": "Sodium"}, "dataAbsentReason": {"text": "x"}}) == []
    assert usable({"status": "final", "code": {"text": "Sodium"}, **value}) == ["sodium"]
