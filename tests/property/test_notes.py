"""Properties of notes: no bytes of any type crash the reader, and its text has no invisible characters."""

from __future__ import annotations

import base64
import itertools
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from striprtf.striprtf import rtf_to_text as oracle

from fhir_mapping import Note, PatientRecord
from fhir_mapping.notes.copied_text import MIN_COPIED, letters, mark_copied
from fhir_mapping.notes.formats.plain import clean, decode
from fhir_mapping.notes.formats.rtf import rtf_to_text
from fhir_mapping.notes.sections import find_sections
from tests.fhir_mapping.notes.note_files import cda, pdf, rtf
from tests.fhir_mapping.notes.test_documents import document
from tests.fhir_mapping.record.test_cases import AT, PATIENT, STAY

TYPES = [
    "text/plain", "text/html", "text/rtf", "application/pdf", "text/xml", "application/xhtml+xml", "text/markdown",
    "application/octet-stream", "image/png", "", "text/plain; charset=utf-16", "text/plain; charset=utf-7",
    "text/html; charset=gb18030", "text/plain; charset=punycode", "nonsense", "text/plain; charset=\u0130",
]  # fmt: skip
WHOLE = [
    b"Plan: rest",
    b"<html><body><h1>Plan</h1><table><tr><td>Na<td>131</table><b>x:</b> y</body></html>",
    rtf(r"{\b Plan}", r"\trowd\intbl Na\cell 131\cell\row \u-10179?\u-8704?"),
    cda("<title>Plan</title><text><table><tr><td>Na</td></tr></table></text>"),
    pdf([["Plan", "rest"]]),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid file with some bytes changed, duplicated or removed."""
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 12))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 20))
        data[start : start + length] = draw(st.one_of(st.binary(max_size=20), st.just(bytes(data[:length]))))
    return bytes(data)


CONTENTS = st.one_of(
    st.binary(max_size=400), damaged(), st.text(max_size=300).map(lambda t: t.encode("utf-8", "replace"))
)


def read(source: dict[str, Any]) -> Note:
    (note,) = PatientRecord.from_resources([PATIENT, STAY, source], prediction_time=AT).notes()
    return note


def check(note: Note) -> None:
    assert (note.status == "read") == bool(note.text.strip())
    assert (note.reason is None) <= (note.status == "read")
    assert hides_nothing(note.text)
    assert len(note.text) <= 200_000
    ends = [section.start for section in note.sections[1:]] + [len(note.text)]
    for section, end in zip(note.sections, ends, strict=False):
        assert 0 <= section.start < section.end == end
        assert hides_nothing(section.title)
    orjson.dumps(note.to_json())


def hides_nothing(text: str) -> bool:
    """Whether there are no controls except newline and tab, no surrogates, and no invisible format characters."""
    drawn = {chr(c) for c in (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)}
    drawn |= {chr(c) for c in range(0x13430, 0x13440)}
    unseen = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return not any(c not in "\n\t" and c not in drawn and unicodedata.category(c) in unseen for c in text)


@settings(max_examples=250, deadline=None)
@given(CONTENTS, st.one_of(st.none(), st.sampled_from(TYPES), st.text(max_size=30)))
def test_any_bytes_give_visible_text_or_a_reason(data: bytes, kind: str | None) -> None:
    check(read(document(data, kind)))


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2**40), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)
NAMES = st.sampled_from(["data", "contentType", "url", "hash", "size", "creation", "language", "title"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(NAMES, JUNK, max_size=4), max_size=3), JUNK, JUNK, JUNK)
def test_any_attachment_makes_one_note(attachments: list[dict[str, Any]], relates: Any, kind: Any, author: Any) -> None:
    content = [{"attachment": attachment} for attachment in attachments]
    source = document(None, content=content or [None], relatesTo=relates, type=kind, author=author)
    check(read(source))


ELEMENTS = [
    "status", "docStatus", "content", "relatesTo", "type", "author", "context", "meta", "conclusion", "presentedForm",
    "section", "issued", "effectivePeriod", "performer", "contained",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["DocumentReference", "DiagnosticReport", "Composition"]),
    st.dictionaries(st.sampled_from(ELEMENTS), JUNK, max_size=6),
)
def test_any_resource_is_a_note_or_refused_or_none(kind: str, elements: dict[str, Any]) -> None:
    source = document(b"Tired") | elements | {"resourceType": kind}
    for note in PatientRecord.from_resources([PATIENT, STAY, source], prediction_time=AT).notes():
        check(note)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={"title": JUNK, "code": JUNK, "text": JUNK, "entry": JUNK, "section": JUNK, "emptyReason": JUNK},
        ),
        max_size=4,
    ),
    JUNK,
)
def test_any_composition_makes_one_note(sections: list[dict[str, Any]], text: Any) -> None:
    source = {"resourceType": "Composition", "id": "c", "status": "final", "date": "2024-05-02", "section": sections}
    check(read(source | {"subject": {"reference": "Patient/p"}, "text": text}))


def test_no_invisible_character_is_kept() -> None:
    everything = "".join(map(chr, range(0x110000)))
    assert hides_nothing(clean(everything))
    lost = set(everything) - set(clean(everything))
    visible = {c for c in lost if unicodedata.category(c)[0] in "LNPS"}
    # Blank although they count as letters (Hangul fillers, Khmer inherent vowels); U+FFFC represents an object.
    assert visible <= {"\u115f", "\u1160", "\u3164", "\uffa0", "\ufffc"}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_text_is_unchanged_in_every_unicode_encoding(text: str) -> None:
    written = clean(text.encode("utf-8", "ignore").decode()).strip("\n")
    if not written.strip():
        return
    for encoding, kind in [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("utf-16-le", "utf-16le"),
    ]:
        if not (encoding == "utf-8" and written.startswith(("\u00ff\u00fe", "\u00fe\u00ff"))):
            assert decode(written.encode(encoding), kind) == written


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="Pln:ABC#*_=-. \n1[]|>SOAP", max_size=120))
def test_sections_are_ordered_and_within_the_text(text: str) -> None:
    found = find_sections(text)
    assert all(section.start < section.end for section in found)
    assert all(first.end == second.start for first, second in itertools.pairwise(found))
    assert not found or found[-1].end == len(text)


WORDS = st.lists(
    st.sampled_from(["sepsis", "no fever", "Na 131", "(low)", "naïve", "50% – 60"]), min_size=1, max_size=6
)


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=5))
def test_rtf_text_equals_that_of_another_library(paragraphs: list[str]) -> None:
    escaped = ["".join(c if c.isascii() else f"\\'{c.encode('cp1252')[0]:02x}" for c in p) for p in paragraphs]
    data = rtf(*escaped)
    assert letters(rtf_to_text(data).text) == letters(oracle(data.decode("latin-1")))


LINES = st.lists(
    st.sampled_from([f"Line {n} about the patient's lungs, heart and kidneys, as seen." for n in range(6)]), max_size=6
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=4))
def test_copied_blocks_equal_those_of_a_naive_search(
    days: list[list[str]],
) -> None:
    notes = [
        Note(f"n{n}", "Note", AT, "\n".join(lines), (), f"n{n}", "read") for n, lines in enumerate(reversed(days))
    ]  # newest first, as read
    marked = mark_copied(notes)
    texts = {note.source: note.text for note in notes}
    for position, note in enumerate(marked):
        earlier = notes[position + 1 :]
        for block in note.copied:
            assert block.end - block.start >= MIN_COPIED
            assert block.source in {other.source for other in earlier}
            assert all(
                line in texts[block.source].split("\n") for line in note.text[block.start : block.end].split("\n")
            )
        lines = note.text.split("\n")
        for first, second in itertools.pairwise(lines):
            together = any({first, second} <= set(other.text.split("\n")) for other in earlier)
            at = note.text.find(f"{first}\n{second}")
            assert not together or first == second or note.copied_from(at) or note.copied_from(at + len(first) + 1)


@pytest.mark.parametrize("data", WHOLE)
def test_every_undamaged_file_is_read(data: bytes) -> None:
    note = read(document(data, None))
    assert note.status == "read"
    assert base64.b64decode(document(data, None)["content"][0]["attachment"]["data"]) == data
