"""Notes in the forms hospitals send them; what cannot be read says so and is never missing."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from fhir_mapping import PatientRecord
from fhir_mapping.notes import find_sections
from tests.fhir_mapping.test_cases import AT, PATIENT, STAY


def document(data: bytes | None, kind: str | None = "text/plain", **more: Any) -> dict[str, Any]:
    attachment: dict[str, Any] = more.pop("attachment", {})
    if data is not None:
        attachment["data"] = base64.b64encode(data).decode()
    if kind is not None:
        attachment["contentType"] = kind
    return {
        "resourceType": "DocumentReference",
        "id": more.pop("id", "d"),
        "status": "current",
        "subject": {"reference": "Patient/p"},
        "date": "2024-05-02T10:00:00Z",
        "content": [{"attachment": attachment}],
        **more,
    }


def notes(*documents: dict[str, Any]) -> PatientRecord:
    return PatientRecord.from_resources([PATIENT, STAY, *documents], prediction_time=AT)


READ: list[tuple[str, bytes, str | None, str]] = [
    ("UTF-8", "Müde".encode(), "text/plain; charset=utf-8", "Müde"),
    ("windows-1252", "Müde".encode("cp1252"), "text/plain; charset=windows-1252", "Müde"),
    ("undeclared windows-1252", "Müde".encode("cp1252"), "text/plain", "Müde"),
    ("UTF-16 with mark", "Müde".encode("utf-16"), "text/plain", "Müde"),
    ("byte order mark", b"\xef\xbb\xbfTired", "text/plain", "Tired"),
    ("no type", b"Tired", None, "Tired"),
    ("no type, HTML", b"<html><body><p>Tired</p></body></html>", None, "Tired"),
    ("HTML", b"<p>Tired<script>alert(1)</script><span hidden>x</span></p>", "text/html", "Tired"),
    ("a table keeps its cells", b"<table><tr><td>Na</td><td>131</td></tr></table>", "text/html", "Na | 131"),
]


@pytest.mark.parametrize(("name", "data", "kind", "text"), READ, ids=[row[0] for row in READ])
def test_a_readable_note(name: str, data: bytes, kind: str | None, text: str) -> None:
    (note,) = notes(document(data, kind)).notes()
    assert (note.status, note.text) == ("read", text)


UNREADABLE: list[tuple[str, dict[str, Any], str]] = [
    ("PDF", document(b"%PDF-1.7 ...", "application/pdf"), "unreadable"),
    ("PDF called text", document(b"%PDF-1.7 ...", "text/plain"), "unreadable"),
    ("broken base64", document(None, attachment={"data": "###"}), "unreadable"),
    ("hash of another text", document(b"Tired", attachment={"hash": "AAAA"}), "unreadable"),
    ("only an address", document(None, attachment={"url": "Binary/1"}), "not-fetched"),
    ("nothing", document(None), "unreadable"),
    ("deep HTML", document(b"<div>" * 100_000, "text/html"), "unreadable"),
]


@pytest.mark.parametrize(("name", "source", "status"), UNREADABLE, ids=[row[0] for row in UNREADABLE])
def test_an_unreadable_note_says_so(name: str, source: dict[str, Any], status: str) -> None:
    started = time.process_time()
    found = notes(source)
    (note,) = found.notes()
    assert (note.status, note.text) == (status, "")
    assert f"note-{status}" in {refusal.reason for refusal in found.refused}
    assert time.process_time() - started < 5  # the parser alone would take minutes on the deep one


def test_the_same_note_in_two_formats_is_read_once() -> None:
    found = notes(document(b"Tired", id="a"), document(b"<p>Tired</p>", "text/html", id="b"))
    assert len(found.notes()) == 1
    assert "same-note-again" in {refusal.reason for refusal in found.refused}


def test_superseded_wrong_and_later_notes_are_not_read() -> None:
    replaced = document(b"Old", id="old")
    replacing = document(
        b"New", id="new", relatesTo=[{"code": "replaces", "target": {"reference": "DocumentReference/old"}}]
    )
    wrong = document(b"Wrong", id="wrong", status="entered-in-error")
    later = document(b"Later", id="later", date="2024-05-04")
    assert [note.text for note in notes(replaced, replacing, wrong, later).notes()] == ["New"]


def test_compositions_give_their_sections() -> None:
    composition = {
        "resourceType": "Composition",
        "id": "c",
        "status": "final",
        "date": "2024-05-02",
        "subject": {"reference": "Patient/p"},
        "section": [{"title": "Hospital course", "text": {"div": "<div>Improved.</div>"}}],
    }
    (note,) = notes(composition).notes()
    (section,) = note.sections
    assert section.name == "hospital_course"
    assert "Improved." in note.text[section.start : section.end]


def test_sections_cover_the_text_between_headings() -> None:
    text = "CHIEF COMPLAINT: cough\n\nFAMILY HISTORY: father had stroke\n\nPlan\nrest"
    found = list(find_sections(text))
    assert [section.name for section in found] == ["chief_complaint", "family_history", "plan"]
    assert text[found[1].start : found[1].end].startswith("FAMILY HISTORY: father")
