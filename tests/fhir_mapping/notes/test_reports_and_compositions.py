"""Reports and Compositions as notes: forms, conclusions, nested sections, entries."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fhir_mapping.notes.note_files import rtf
from tests.fhir_mapping.notes.test_documents import attachment, notes, only


def report(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": {"text": "Chest X-ray"},
        "subject": {"reference": "Patient/p"},
        "issued": "2024-05-02T10:00:00Z",
        **more,
    }


def test_diagnostic_reports_are_notes() -> None:
    form = [attachment(rtf("No effusion"), "application/rtf")]
    assert only(report(presentedForm=form, conclusion="no  effusion")).text == "No effusion"
    note = only(report(conclusion="No acute disease"))
    assert (note.text, note.kind, note.source) == ("No acute disease", "imaging_report", "DiagnosticReport/r")
    assert notes(report()).notes() == ()
    assert notes(report(status="cancelled", conclusion="x")).notes() == ()


@pytest.mark.parametrize(
    ("form", "text", "refused"),
    [
        (attachment(rtf("No effusion"), "application/rtf"), "No effusion\n\nLarge embolism", []),
        ({"contentType": "application/pdf", "url": "https://ehr.example.org/Binary/9"}, "Large embolism",
         [("attachment-unreadable", "url-not-fetched"), ("note-incomplete", "url-not-fetched")]),
        (attachment(b"%PDF-1.4 broken", "application/pdf"), "Large embolism",
         [("attachment-unreadable", "pdf-damaged"), ("note-incomplete", "pdf-damaged")]),
        ({"contentType": "application/pdf"}, "Large embolism",
         [("attachment-unreadable", "no-data"), ("note-incomplete", "no-data")]),
    ],
)  # fmt: skip
def test_conclusion_and_form_are_both_content(form: dict[str, Any], text: str, refused: list[tuple[str, str]]) -> None:
    """A form that cannot be read hid the conclusion of its report."""
    found = notes(report(presentedForm=[form], conclusion="Large embolism"))
    (note,) = found.notes()
    assert (note.status, note.text) == ("read", text)
    assert [(refusal.reason, refusal.detail) for refusal in found.refused] == refused


def composition(*sections: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Composition",
        "id": "c",
        "status": "final",
        "date": "2024-05-02",
        "subject": {"reference": "Patient/p"},
        "section": list(sections),
        **more,
    }


def test_compositions_have_sections() -> None:
    note = only(composition({"title": "Hospital course", "text": {"div": "<div>Improved.</div>"}}))
    (section,) = note.sections
    assert section.name == "hospital_course"
    assert note.text[section.start : section.end] == "Hospital course\nImproved."


def test_nested_sections_entries_and_empty_reasons() -> None:
    condition = {
        "resourceType": "Condition",
        "id": "x",
        "subject": {"reference": "Patient/p"},
        "code": {"text": "Sepsis"},
    }
    later = condition | {"id": "y", "code": {"text": "Stroke"}, "recordedDate": "2024-05-09"}
    code = {"coding": [{"system": "http://loinc.org", "code": "11450-4"}]}
    inner = {"title": "#1", "text": {"div": "<div><b>Fluids:</b> given</div>"}}
    note = only(
        composition(
            {"title": "Probleme", "code": code, "entry": [{"reference": "Condition/x"}, {"reference": "Condition/y"}]},
            {"title": "Assessment", "text": {"div": "<div>ill</div>"}, "section": [inner]},
            {"title": "Allergies", "emptyReason": {"coding": [{"code": "notasked", "display": "Not Asked"}]}},
            {"title": "Nothing here"},
        ),
        condition,
        later,
    )
    assert note.text == "Probleme\n- Sepsis\n\nAssessment\nill\n\n#1\nFluids: given\n\nAllergies\n[Not Asked]"
    assert [(s.name, s.title, s.code) for s in note.sections] == [
        ("problems", "Probleme", "11450-4"),
        ("assessment", "Assessment", None),
        ("assessment", "#1", None),
        ("assessment", "Fluids", None),
        ("allergies", "Allergies", None),
    ]


def test_contained_section_entries_are_named() -> None:
    """They were looked up without the Composition that contains them, and vanished."""
    contained = [
        {"resourceType": "Condition", "id": "in", "code": {"text": "Sepsis"}},
        {"resourceType": "Condition", "id": "own", "code": {"text": "Shock"}, "subject": {"reference": "Patient/p"}},
        {"resourceType": "Condition", "id": "his", "code": {"text": "Stroke"}, "subject": {"reference": "Patient/q"}},
    ]
    entries = [{"reference": f"#{identifier}"} for identifier in ("in", "own", "his", "gone")]
    note = only(composition({"title": "Problems", "entry": entries}, contained=contained))
    assert note.text == "Problems\n- Sepsis\n- Shock"


def test_an_unreadable_section_is_replaced_by_a_remark() -> None:
    deep = {"title": "Plan", "text": {"div": "<div>" * 1000}}
    found = notes(composition(deep, {"title": "Course", "text": {"div": "<div>Improved.</div>"}}))
    (note,) = found.notes()
    assert (note.status, note.reason) == ("read", "section-unreadable")
    assert note.text == "Plan\n[this section could not be read]\n\nCourse\nImproved."
