"""Notes in the formats hospitals send; an unreadable note is returned with a reason, never dropped."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any

import orjson
import pytest

from fhir_mapping import Note, PatientRecord
from tests.fhir_mapping.notes.note_files import cda, loinc, pdf, rtf
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY


def attachment(data: bytes | None, kind: str | None = "text/plain") -> dict[str, Any]:
    found = {} if data is None else {"data": base64.b64encode(data).decode()}
    return found | ({} if kind is None else {"contentType": kind})


def document(data: bytes | None, kind: str | None = "text/plain", **more: Any) -> dict[str, Any]:
    content = more.pop("content", None) or [{"attachment": attachment(data, kind) | more.pop("attachment", {})}]
    return {
        "resourceType": "DocumentReference",
        "id": more.pop("id", "d"),
        "status": "current",
        "subject": {"reference": "Patient/p"},
        "date": "2024-05-02T10:00:00Z",
        "content": content,
        **more,
    }


def notes(*documents: dict[str, Any], **more: Any) -> PatientRecord:
    return PatientRecord.from_resources([PATIENT, STAY, *documents], prediction_time=more.pop("at", AT), **more)


def only(*documents: dict[str, Any], **more: Any) -> Note:
    (note,) = notes(*documents, **more).notes()
    return note


TABLE = "<table><tr><td>Na</td><td>131</td></tr><tr><td></td><td>low</td></tr></table>"
CDA_TABLE = "<title>Results</title><text><table><tbody><tr><td>Na</td><td>131</td></tr></tbody></table></text>"
OUTSIDE_THE_PAGE = pdf([], streams=[zlib.compress(b"BT /F 9 Tf 50 750 Td (Tired) Tj 9000 0 Td (unseen) Tj ET")])
READ: list[tuple[str, bytes, str | None, str]] = [
    ("UTF-8", "Müde".encode(), "text/plain; charset=utf-8", "Müde"),
    ("windows-1252", "Müde – “so”".encode("cp1252"), "text/plain; charset=windows-1252", "Müde – “so”"),
    ("iso-8859-1 is read as browsers do", "Müde – so".encode("cp1252"), "text/plain;charset=ISO-8859-1", "Müde – so"),
    ("windows-1251", "Да".encode("cp1251"), 'text/plain; charset="windows-1251"', "Да"),
    ("undeclared windows-1252", "Müde".encode("cp1252"), "text/plain", "Müde"),
    ("declared UTF-8, written windows-1252", "Müde".encode("cp1252"), "text/plain; charset=utf-8", "Müde"),
    ("an unknown charset", "Müde".encode(), "text/plain; charset=x-none", "Müde"),
    ("a charset that is a language", b"\\u0041", "text/plain; charset=unicode_escape", "\\u0041"),
    ("UTF-16 with mark", "Müde".encode("utf-16"), "text/plain", "Müde"),
    ("UTF-16 without mark, declared", "Müde".encode("utf-16-le"), "text/plain; charset=UTF-16", "Müde"),
    ("UTF-16 big endian without mark", "Tired Müde".encode("utf-16-be"), "text/plain", "Tired Müde"),
    ("UTF-16LE", "Müde".encode("utf-16-le"), "text/plain; charset=utf-16le", "Müde"),
    ("byte order mark", b"\xef\xbb\xbfTired", "text/plain", "Tired"),
    ("mark beats the charset", "\ufeffMüde".encode(), "text/plain; charset=iso-8859-1", "Müde"),
    ("line ends", b"a\r\nb\rc\x0bd", "text/plain", "a\nb\nc\nd"),
    ("control characters", b"no\x08 pa\x00in" + b" at all" * 10, "text/plain", "no pain" + " at all" * 10),
    ("reordered and split words", "no\u202e pa\u200bin\u2066 \U000e0041now".encode(), "text/plain", "no pain now"),
    ("markdown", b"# Plan\nrest", "text/markdown", "# Plan\nrest"),
    ("no type", b"Tired", None, "Tired"),
    ("a type that says nothing", b"Tired", "application/octet-stream", "Tired"),
    ("no type, HTML", b"<html><body><p>Tired</p></body></html>", None, "Tired"),
    ("no type, a piece of HTML", b"<div>Tired</div>", None, "Tired"),
    ("no type, RTF", rtf("Tired"), None, "Tired"),
    ("no type, PDF", pdf([["Tired"]]), None, "Tired"),
    ("no type, CDA", cda("<title>Plan</title><text>rest</text>"), None, "Plan\nrest"),
    ("HTML", b"<p>Tired<script>alert(1)</script><span hidden>x</span></p>", "text/html", "Tired"),
    ("HTML, declared charset", "<p>Müde</p>".encode("cp1252"), "text/html; charset=windows-1252", "Müde"),
    ("HTML, charset within", '<meta charset="windows-1251"><p>Да</p>'.encode("cp1251"), "text/html", "Да"),
    ("HTML, UTF-16", "<html><p>Müde</p></html>".encode("utf-16"), "text/html", "Müde"),
    ("XHTML", b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>Tired</body></html>',
     "application/xhtml+xml", "Tired"),
    ("a table keeps its cells", TABLE.encode(), "text/html", "Na | 131\n| low"),
    ("a paragraph in a cell", b"<table><tr><td><p>Na</p></td><td><p>131</p></td></tr></table>", "text/html", "Na | 131"),
    ("a page within a cell", b"<table><tr><td><h2>Plan</h2><p>rest</p></td></tr></table>", "text/html", "Plan\nrest"),
    ("unclosed paragraphs and items", b"<p>one<p>two<ul><li>a<li>b</ul>", "text/html", "one\ntwo\n- a\n- b"),
    ("hidden by style", b"<p>A<i style='display:none'>x</i><i style='font-size:0px'>y</i><i style='opacity:0'>z</i></p>",
     "text/html", "A"),
    ("hidden by a style sheet", b"<style>.h, p.k {display: none}</style><p class=h>x</p><p>A</p>", "text/html", "A"),
    ("white on white", b"<p>A<span style='color:#FFF'>x</span></p>", "text/html", "A"),
    ("white on blue shows", b"<p style='color:white;background:navy'>A</p>", "text/html", "A"),
    ("deleted words", b"<p>Allergies: <del>penicillin</del> none</p>", "text/html", "Allergies: none"),
    ("boxes that are ticked", b"<input type=checkbox checked>smoker<br><input type=checkbox>diabetic", "text/html",
     "[x] smoker\n[ ] diabetic"),
    ("an entity that is a control character", b"<p>Ti&#1;red&#x202e;</p>", "text/html", "Tired"),
    ("RTF", rtf(r"Tired\line and pale", "rest"), "application/rtf", "Tired\nand pale\nrest"),
    ("RTF code page", rtf(r"\'c4\'e0", head=r"\ansi\ansicpg1251"), "text/rtf", "Да"),
    ("RTF fonts", rtf(r"{\f0 M\'fcde} {\f1 \'c4\'e0}", head=r"\ansi\ansicpg1252\deff0{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset204 B;}}"),
     "text/rtf", "Müde Да"),
    ("RTF Japanese", rtf(r"{\f1 \'93\'fa\'83A}", head=r"\ansi{\fonttbl{\f1\fcharset128 G;}}"), "text/rtf", "日ア"),
    ("RTF Unicode and its stand-in", rtf(r"\uc1 M\u252?de \uc2\u8364''x"), "text/rtf", "Müde €x"),
    ("RTF surrogates", rtf(r"\u-10179?\u-8704? \u-10179? lone"), "text/rtf", "😀 lone"),
    ("RTF hidden and deleted", rtf(r"A{\v hidden}{\deleted gone}\v no\v0 B"), "text/rtf", "AB"),
    ("RTF headers, comments, pictures", rtf(r"{\header top}A{\*\annotation c}{\pict 00ff}{\*\unknown x}"), "text/rtf", "A"),
    ("RTF binary", b"{\\rtf1 A{\\pict\\bin4 }}{}}B}", "text/rtf", "AB"),
    ("RTF link", rtf(r'{\field{\*\fldinst HYPERLINK "x"}{\fldrslt shown}}'), "text/rtf", "shown"),
    ("RTF table", rtf(r"\trowd\intbl Na\cell 131\cell\row\pard after"), "text/rtf", "Na | 131\nafter"),
    ("CDA", cda(f"{loinc('10160-0')}<title>Drugs</title><text><list><item>Aspirin</item></list></text>"),
     "application/xml", "Drugs\n- Aspirin"),
    ("CDA table", cda(CDA_TABLE), "text/xml", "Results\nNa | 131"),
    ("CDA deleted words", cda('<title>Plan</title><text>rest<content revised="delete">x</content></text>'),
     "application/hl7-sdwg+xml", "Plan\nrest"),
    ("CDA nested", cda("<title>A</title><text>x</text><component><section><title>B</title><text>y</text></section></component>"),
     "text/xml", "A\nx\nB\ny"),
    ("CDA without a title", cda(loinc("8716-3") + "<text>stable</text>"), "text/xml", "8716-3\nstable"),
    ("CDA knows nothing", cda('<title>Allergies</title><text nullFlavor="NASK"/>'), "text/xml", "Allergies\n[not asked]"),
    ("CDA section without information", cda('<title>Plan</title><text>n/a</text>').replace(b"<section>", b'<section nullFlavor="NI">'),
     "text/xml", "Plan\n[no information]\nn/a"),
    ("CDA with plain text", cda(body="<nonXMLBody><text>Tired</text></nonXMLBody>"), "text/xml", "Tired"),
    ("CDA with RTF", cda(body=f'<nonXMLBody><text mediaType="text/rtf" representation="B64">{base64.b64encode(rtf("Tired")).decode()}</text></nonXMLBody>'),
     "text/xml", "Tired"),
    ("CDA in UTF-16", cda("<text>Müde</text>").decode().replace("UTF-8", "UTF-16").encode("utf-16"), "text/xml", "Müde"),
    ("PDF", pdf([["Tired (very)", "and pale"], ["rest"]]), "application/pdf", "Tired (very)\nand pale\nrest"),
    ("PDF text outside the page", OUTSIDE_THE_PAGE, "application/pdf", "Tired"),
    ("PDF for everyone to open", pdf([["Tired"]], password=""), "application/pdf", "Tired"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "kind", "text"), READ, ids=[row[0] for row in READ])
def test_a_readable_note(name: str, data: bytes, kind: str | None, text: str) -> None:
    note = only(document(data, kind))
    assert (note.status, note.reason, note.text) == ("read", None, text)


DOCTYPE = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
UNREADABLE: list[tuple[str, dict[str, Any], str]] = [
    ("broken PDF", document(b"%PDF-1.7 ...", "application/pdf"), "pdf-damaged"),
    ("encrypted PDF", document(pdf([["Tired"]], password="secret"), "application/pdf"), "pdf-encrypted"),
    ("scanned PDF", document(pdf([[], []]), "application/pdf"), "pdf-without-text"),
    ("PDF called text", document(b"%PDF-1.7 ...", "text/plain"), "type-disagrees"),
    ("RTF called PDF", document(rtf("x"), "application/pdf"), "type-disagrees"),
    ("HTML called text", document(b"<!DOCTYPE html><p>x", "text/plain"), "type-disagrees"),
    ("CDA called HTML", document(cda(), "text/html"), "type-disagrees"),
    ("text called RTF", document(b"Tired", "text/rtf"), "type-disagrees"),
    ("text called PDF", document(b"Tired", "application/pdf"), "type-disagrees"),
    ("a picture", document(b"\x89PNG\r\n", "image/png"), "format-not-supported"),
    ("a picture without a type", document(b"\x89PNG\r\n", None), "format-not-supported"),
    ("Word", document(b"PK\x03\x04", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
     "format-not-supported"),
    ("bytes called text", document(bytes(range(256)) * 8, "text/plain"), "not-text"),
    ("XML that is no CDA", document(b"<?xml version='1.0'?><note>x</note>", "text/xml"), "xml-not-cda"),
    ("XML cut short", document(cda()[:-20], "text/xml"), "xml-invalid"),
    ("entities", document(cda("<text>&b;</text>", head=DOCTYPE), "text/xml"), "xml-doctype"),
    ("an entity outside", document(cda("<text>&a;</text>", head=OUTSIDE), "text/xml"), "xml-doctype"),
    ("a CDA body elsewhere", document(cda(body='<nonXMLBody><text><reference value="x.pdf"/></text></nonXMLBody>'), "text/xml"),
     "cda-body-elsewhere"),
    ("an empty CDA", document(cda(), "text/xml"), "empty"),
    ("nothing but space", document(b" \n ", "text/plain"), "empty"),
    ("HTML without text", document(b"<script>x</script>", "text/html"), "empty"),
    ("broken base64", document(None, attachment={"data": "###"}), "base64-invalid"),
    ("base64 without padding", document(None, attachment={"data": "VGlyZ"}), "base64-invalid"),
    ("base64 that is a number", document(None, attachment={"data": 7}), "base64-invalid"),
    ("too large", document(b"x" * 5_000_001), "too-large"),
    ("far too large", document(None, attachment={"data": "A" * 8_000_000}), "too-large"),
    ("hash of another text", document(b"Tired", attachment={"hash": "AAAA"}), "hash-disagrees"),
    ("size of another text", document(b"Tired", attachment={"size": 6}), "size-disagrees"),
    ("no data", document(None), "no-data"),
    ("no attachment", document(None, content=[{}]), "no-attachment"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "reason"), UNREADABLE, ids=[row[0] for row in UNREADABLE])
def test_an_unreadable_note_has_a_reason(name: str, source: dict[str, Any], reason: str) -> None:
    found = notes(source)
    (note,) = found.notes()
    assert (note.status, note.reason, note.text, note.sections) == ("unreadable", reason, "", ())
    assert ("note-unreadable", reason) in {(refusal.reason, refusal.detail) for refusal in found.refused}


SHA1, SHA256 = hashlib.sha1(b"Tired"), hashlib.sha256(b"Tired")


@pytest.mark.parametrize(
    "checks",
    [
        {"hash": base64.b64encode(SHA1.digest()).decode(), "size": 5},
        {"hash": SHA1.hexdigest().upper(), "size": "5"},
        {"hash": base64.b64encode(SHA256.digest()).decode()},
        {"url": "https://elsewhere.example/1"},
    ],
)
def test_data_matching_hash_and_size_are_read(checks: dict[str, Any]) -> None:
    assert only(document(b"Tired", attachment=checks)).text == "Tired"


def test_wrapped_base64_is_read() -> None:
    data = base64.encodebytes(b"Tired " * 30).decode()
    assert only(document(None, attachment={"data": data})).text == ("Tired " * 30)


def test_a_partly_scanned_pdf_is_read_with_a_warning() -> None:
    found = notes(document(pdf([["Tired"], []]), "application/pdf"))
    (note,) = found.notes()
    assert (note.status, note.reason, note.text) == ("read", "pdf-pages-without-text", "Tired")
    assert ("note-incomplete", "pdf-pages-without-text") in {(r.reason, r.detail) for r in found.refused}


@pytest.mark.parametrize(("data", "kind"), [(b"word " * 50_000, "text/plain"), (b"<p>word</p>" * 50_000, "text/html")])
def test_a_long_text_is_cut_with_a_warning(data: bytes, kind: str) -> None:
    note = only(document(data, kind))
    assert (note.status, note.reason, len(note.text)) == ("read", "text-cut", 200_000)


def binary(data: bytes, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Binary",
        "id": "b",
        "contentType": "text/plain",
        "data": base64.b64encode(data).decode(),
    } | more


def test_a_url_to_a_binary_in_the_same_bundle_is_resolved() -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"resource": PATIENT},
            {"resource": document(None, "text/html", attachment={"url": "Binary/b"}, id="a")},
            {"resource": document(None, None, attachment={"url": "urn:uuid:1"}, id="c", date="2024-05-01")},
            {"resource": binary(b"<p>Tired</p>", contentType="text/html")},
            {"resource": binary(b"Pale", id="u"), "fullUrl": "urn:uuid:1"},
        ],
    }
    found = PatientRecord.from_json(orjson.dumps(bundle), prediction_time=AT)
    assert [note.text for note in found.notes()] == ["Tired", "Pale"]


def test_an_external_url_is_read_only_with_a_fetch_function() -> None:
    source = document(None, "text/plain", attachment={"url": "https://ehr.example/fhir/Binary/9"})
    found = notes(source)
    (note,) = found.notes()
    assert (note.status, note.reason, note.text) == ("not-fetched", "url-not-fetched", "")
    assert "note-not-fetched" in {refusal.reason for refusal in found.refused}
    brought: list[bytes | dict[str, Any]] = [b"Tired", binary(b"Tired"), orjson.dumps(binary(b"Tired"))]
    for answer in brought:
        asked: list[str] = []

        def fetch(url: str, answer: Any = answer, asked: list[str] = asked) -> Any:
            asked.append(url)
            return answer

        assert only(source, fetch_attachment=fetch).text == "Tired"
        assert asked == ["https://ehr.example/fhir/Binary/9"]
    assert only(source, fetch_attachment=lambda url: None).status == "not-fetched"


def test_only_current_notes_without_text_are_fetched() -> None:
    """No URL is fetched for a note that is later, superseded, or has its data inline."""
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return b"Tired"

    elsewhere = {"url": "Binary/later"}
    notes(
        document(None, attachment=elsewhere, id="later", date="2024-05-09"),
        document(None, attachment=elsewhere, id="wrong", status="entered-in-error"),
        document(b"Pale", attachment=elsewhere, id="here"),
        fetch_attachment=fetch,
    )
    assert asked == []


def test_several_formats_of_one_document_are_one_note() -> None:
    content = [
        {"attachment": attachment(pdf([["Tired"]]), "application/pdf")},
        {"attachment": attachment(b"<p>Tired</p>", "text/html")},
        {"attachment": attachment(b"Tired", "text/plain")},
    ]
    note = only(document(None, content=content))
    assert (note.text, note.original_format) == ("Tired", "text/plain")
    assert note.other_sources == ("DocumentReference/d#content[0]", "DocumentReference/d#content[1]")


def test_a_broken_format_is_refused_and_the_next_is_read() -> None:
    content = [
        {"attachment": attachment(b"%PDF-", "text/plain")},
        {"attachment": attachment(rtf("Tired"), "text/rtf")},
    ]
    found = notes(document(None, content=content))
    (note,) = found.notes()
    assert (note.text, note.original_format, note.status) == ("Tired", "text/rtf", "read")
    assert ("attachment-unreadable", "type-disagrees") in {(r.reason, r.detail) for r in found.refused}


def test_attachments_in_the_same_format_are_joined() -> None:
    content = [{"attachment": attachment(text, "text/plain")} for text in (b"Page one", b"Page two", b"Page one")]
    assert only(document(None, content=content)).text == "Page one\n\nPage two"


def replaces(target: str) -> list[dict[str, Any]]:
    return [{"code": "replaces", "target": {"reference": target}}]


def test_superseded_void_and_later_notes_are_not_read() -> None:
    replaced = document(b"Old", id="old")
    replacing = document(b"New", id="new", relatesTo=replaces("DocumentReference/old"))
    wrong = document(b"Wrong", id="wrong", status="entered-in-error")
    later = document(b"Later", id="later", date="2024-05-04")
    assert [note.text for note in notes(replaced, replacing, wrong, later).notes()] == ["New"]


def test_a_note_replaced_only_later_is_read() -> None:
    old = document(b"Old", id="old", status="superseded")
    correction = document(b"New", id="new", date="2024-05-04T10:00:00Z", relatesTo=replaces("DocumentReference/old"))
    assert [note.text for note in notes(old, correction).notes()] == ["Old"]
    assert [note.text for note in notes(old, correction, at="2024-05-05").notes()] == ["New"]
    assert [note.text for note in notes(old).notes()] == []


def test_of_notes_that_replace_each_other_the_newer_is_read() -> None:
    first = document(b"One", id="one", date="2024-05-01T10:00:00Z", relatesTo=replaces("DocumentReference/two"))
    second = document(b"Two", id="two", relatesTo=replaces("DocumentReference/one"))
    itself = document(b"Three", id="three", relatesTo=replaces("DocumentReference/three"))
    assert {note.text for note in notes(first, second, itself).notes()} == {"Two", "Three"}


def test_r5_relations_replace_notes() -> None:
    code = {"coding": [{"system": "http://hl7.org/fhir/document-relationship-type", "code": "replaces"}]}
    relation = [{"code": code, "target": {"reference": "DocumentReference/old/_history/2"}}]
    found = notes(document(b"Old", id="old"), document(b"New", id="new", relatesTo=relation))
    assert [note.text for note in found.notes()] == ["New"]


def test_a_note_without_a_time_is_refused() -> None:
    undated = document(b"Tired")
    del undated["date"]
    assert notes(undated).notes() == ()
    assert "note-without-time" in {refusal.reason for refusal in notes(undated).refused}
    assert [note.text for note in notes(undated, at=None).notes()] == ["Tired"]
    stored = undated | {"meta": {"lastUpdated": "2024-05-02T10:00:00Z"}}
    assert only(stored).text == "Tired"
    assert notes(undated | {"meta": {"lastUpdated": "2024-05-09T10:00:00Z"}}).notes() == ()


def test_the_newest_twenty_notes_are_read() -> None:
    many = [document(f"Note {n}".encode(), id=f"n{n}", date=f"2024-04-{n:02d}") for n in range(1, 29)]
    unread = [document(b"%PDF-", id=f"u{n}", date="2024-05-01") for n in range(3)]
    found = notes(*many, *unread)
    assert [note.text for note in found.notes() if note.status == "read"] == [f"Note {n}" for n in range(28, 8, -1)]
    assert len(found.notes()) == 23
    assert sum(refusal.reason == "more-notes-than-read" for refusal in found.refused) == 8


def test_kind_author_role_and_preliminary_status() -> None:
    role = {
        "resourceType": "PractitionerRole",
        "id": "r",
        "code": [{"text": "Attending physician"}],
    }
    coded = {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.1", "code": "18842-5"}]}
    first = document(b"A", id="a", type=coded, docStatus="preliminary", author=[{"reference": "PractitionerRole/r"}])
    second = document(b"B", id="b", type={"text": "Oncology Consult"}, author=[{"reference": "Practitioner/9"}])
    found = {note.text: note for note in notes(first, second, role).notes()}
    assert (found["A"].kind, found["A"].type, found["A"].preliminary) == (
        "discharge_summary",
        "discharge summary",
        True,
    )
    assert found["A"].author_role == "Attending physician"
    assert (found["B"].kind, found["B"].type, found["B"].preliminary) == ("consultation", "Oncology Consult", False)
    assert found["B"].author_role == "practitioner"


def test_a_note_without_a_type_is_named_by_its_title() -> None:
    note = only(document(b"A", description="ICU  progress note\u200b"))
    assert (note.type, note.kind) == ("ICU progress note", "progress_note")
    assert (only(document(b"A")).type, only(document(b"A")).kind) == ("DocumentReference", "other")
