"""Duplicate notes are merged, copied passages are marked with their source, and no text is lost."""

from __future__ import annotations

import itertools

import pytest

from fhir_mapping.notes.copied_text import MIN_COPIED
from tests.fhir_mapping.notes.note_files import cda, pdf, rtf
from tests.fhir_mapping.notes.test_documents import document, notes

LINES = ["Hospital Course", "Admitted with sepsis; lactate 4.1 mmol/L, treated.", "Plan: home on day 5"]
PLAIN = "\n".join(LINES).encode()
HTML = f"<h2>{LINES[0]}</h2><p>{LINES[1]}</p><ul><li>{LINES[2]}</li></ul>".encode()
RTF = rtf(*LINES)
CDA = cda(f"<title>{LINES[0]}</title><text><paragraph>{LINES[1]}</paragraph>{LINES[2]}</text>")
FORMS = [
    (PLAIN, "text/plain"),
    (HTML, "text/html"),
    (RTF, "text/rtf"),
    (CDA, "text/xml"),
    (pdf([LINES]), "application/pdf"),
]


@pytest.mark.parametrize("chosen", list(itertools.combinations(range(5), 3)))
def test_the_same_note_in_three_formats_is_read_once(chosen: tuple[int, ...]) -> None:
    found = notes(*(document(*FORMS[n], id=f"f{n}", date=f"2024-05-02T1{n}:00:00Z") for n in chosen))
    (note,) = found.notes()
    best = min(chosen, key=lambda n: (3, 0, 1, 4, 2).index(n))
    assert note.source == f"DocumentReference/f{best}"
    assert set(note.other_sources) == {f"DocumentReference/f{n}" for n in chosen if n != best}
    assert sum(refusal.reason == "same-note-again" for refusal in found.refused) == 2


def test_of_duplicates_the_longer_text_is_kept() -> None:
    titled = pdf([["General Hospital", *LINES]])
    (note,) = notes(document(PLAIN, id="a"), document(titled, "application/pdf", id="b")).notes()
    assert (note.source, note.other_sources) == ("DocumentReference/b", ("DocumentReference/a",))


CHANGES = [(b"4.1", b"4.7"), (b"treated", b"not treated"), (b"home on day 5", b"died on day 5")]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_notes_that_differ_by_a_word_are_not_duplicates(old: bytes, new: bytes) -> None:
    other = document(PLAIN.replace(old, new), id="b")
    assert len(notes(document(HTML, "text/html", id="a"), other).notes()) == 2


def test_an_addendum_is_kept_in_either_format() -> None:
    (note,) = notes(document(HTML, "text/html", id="a"), document(PLAIN + b"\nBetter.", id="b")).notes()
    assert note.text.endswith("Better.")
    apart = notes(document(HTML, "text/html", id="a"), document(PLAIN + b"\nBetter.", id="b", date="2024-05-01"))
    assert len(apart.notes()) == 2


def test_duplicates_are_one_note_with_all_sources() -> None:
    found = notes(*(document(PLAIN, id=f"d{day}", date=f"2024-05-0{day}T08:00:00Z") for day in (1, 2, 3))).notes()
    (note,) = found
    assert note.source == "DocumentReference/d3"
    assert note.other_sources == ("DocumentReference/d2", "DocumentReference/d1")


HISTORY = (
    "Past Medical History:\nCOPD on home oxygen, heart failure, and diabetes with retinopathy.\nMarried, two sons."
)


def progress(day: int, *parts: str) -> dict[str, object]:
    return document("\n".join(parts).encode(), id=f"d{day}", date=f"2024-05-0{day}T08:00:00Z")


def test_a_copied_block_names_its_first_note() -> None:
    third, second, first = notes(
        progress(1, "Day one.", HISTORY, "Plan: admit"),
        progress(2, "Day two, better.", HISTORY, "Plan: continue"),
        progress(3, "Day three.", HISTORY, "Plan: home"),
        at="2024-05-04",
    ).notes()
    assert first.copied == ()
    for note in (second, third):
        (block,) = note.copied
        assert note.text[block.start : block.end] == HISTORY
        assert block.source == "DocumentReference/d1"
        assert note.copied_from(note.text.index("COPD")) == "DocumentReference/d1"
        assert note.copied_from(note.text.index("Plan:")) is None
        assert HISTORY in note.text


def test_a_copied_sentence_within_a_long_paragraph_is_marked() -> None:
    copied = "She was found on the floor by her neighbour, confused, with a temperature of 39.4 and a blood pressure of 80/40."
    new = "Overnight she needed more fluids and a second vasopressor, and the lactate rose again to 6."
    second, _ = notes(
        progress(1, f"{copied} She was admitted."), progress(2, f"{copied} {new}"), at="2024-05-04"
    ).notes()
    (block,) = second.copied
    assert second.text[block.start : block.end].strip() == copied


def test_common_headings_and_short_lines_are_not_copies() -> None:
    shared = "Assessment\nStable.\nPlan"
    assert len(shared) < MIN_COPIED
    second, _ = notes(progress(1, shared, "rest"), progress(2, shared, "home"), at="2024-05-04").notes()
    assert second.copied == ()


def test_a_changed_number_is_not_marked_as_copied() -> None:
    second, _ = notes(
        progress(
            1, HISTORY, "Creatinine 1.1 mg/dL and falling under fluids and antibiotics since the admission yesterday."
        ),
        progress(
            2, HISTORY, "Creatinine 3.1 mg/dL and falling under fluids and antibiotics since the admission yesterday."
        ),
        at="2024-05-04",
    ).notes()
    assert second.copied_from(second.text.index("3.1")) is None
