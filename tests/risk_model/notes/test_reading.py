"""Several notes within bounds: which are read first, and what is said of those that are not."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from benchmarks.note_time import TEXTS, notes_of
from fhir_mapping import Note
from knowledge_index import KnowledgeIndex
from risk_model import RuleNoteReader
from risk_model.core.values import UnreadNote
from risk_model.notes import ReadingBounds
from risk_model.notes.languages import language_of
from risk_model.notes.reading import MAX_CHARACTERS, MAX_MENTIONS, within_bounds


@pytest.fixture(scope="module")
def index() -> KnowledgeIndex:
    return KnowledgeIndex.open_starter()


@pytest.fixture(scope="module")
def reader(index: KnowledgeIndex) -> RuleNoteReader:
    return RuleNoteReader(index, embed=False)


def note(
    name: str, text: str = "Chest pain.", *, day: int = 1, kind: str = "other", language: str | None = None
) -> Note:
    time_of = datetime(2024, 5, day, 12, tzinfo=UTC)
    return Note(name, "Note", time_of, text, (), name, "read", kind=kind, language=language)


def test_the_newest_day_comes_first_and_of_a_day_the_summaries() -> None:
    notes = [
        note("nursing", kind="nursing_note", day=3),
        note("summary", kind="discharge_summary", day=3),
        note("older", kind="discharge_summary", day=2),
    ]
    assert [read.source for read, _ in within_bounds(notes)] == ["summary", "nursing", "older"]


def test_notes_beyond_the_bounds_are_named(index: KnowledgeIndex) -> None:
    reader = RuleNoteReader(index, embed=False, bounds=ReadingBounds(notes=1))
    found = reader.read([note("a", day=2), note("b", day=1)])
    assert found.not_read == (UnreadNote("b", "more-notes-than-read"),)
    assert found.unread_in_words() == ("1 note not read: older than the newest ones read",)


def test_a_cut_text_and_too_many_mentions_are_said(reader: RuleNoteReader) -> None:
    long = reader.read([note("long", "Stable. " * MAX_CHARACTERS)])
    assert long.not_read == (UnreadNote("long", "text-cut", part=True),)
    many = reader.read([note("many", "denies " + "nausea, " * (MAX_MENTIONS + 10))])
    assert (len(many.findings), many.not_read) == (
        MAX_MENTIONS,
        (UnreadNote("many", "more-mentions-than-read", part=True),),
    )


def test_a_note_after_the_deadline_is_not_read_and_never_a_note_without_findings(reader: RuleNoteReader) -> None:
    found = reader.read([note("late", "Sepsis in the morning.")], deadline=time.monotonic() - 1)
    assert (found.findings, found.notes_read, found.not_read) == ((), 0, (UnreadNote("late", "not-in-time"),))
    assert reader.read([note("late", "Sepsis in the morning.")]).findings, "what was not read is not cached as empty"


def test_a_deadline_within_a_note_ends_its_reading(index: KnowledgeIndex) -> None:
    begun = time.monotonic()
    found = RuleNoteReader(index, embed=False).read(
        [note("slow", "Cr 1.2, chest pain. " * 2900)], deadline=begun + 0.01
    )
    assert [unread.reason for unread in found.not_read] == ["not-in-time"]


@pytest.mark.parametrize(
    ("text", "declared", "language"),
    [
        ("Kein Diabetes mellitus. Vater mit Schlaganfall.", None, "de"),
        ("Paciente sin fiebre, con dolor torácico.", None, "es"),
        ("Patient sans fièvre, avec une douleur thoracique depuis hier.", None, "fr"),
        ("Diabetes mellitus", "de-DE", "de"),
        ("Diabetes mellitus", None, "en"),
        ("Denies chest pain and has no fever", "de", "en"),
        ("72M w/ CHF, DM, p/w SOB x2d. Cr 1.2", "en-US", "en"),
        ("Z. n. Myokardinfarkt 2015. Aktuell Thoraxschmerzen.", None, "de"),
        ("A/P: LA dilated, con't ASA", None, "en"),
    ],
)
def test_the_language_of_a_note_is_detected_by_its_words(text: str, declared: str | None, language: str) -> None:
    assert language_of(text, declared) == language


def test_a_note_in_another_language_is_said_not_to_be_read(reader: RuleNoteReader) -> None:
    found = reader.read([note("fr", "Patient sans fièvre, avec une pneumonie depuis hier.")])
    assert (found.findings, found.notes_read) == ((), 0)
    assert found.unread_in_words() == ("1 note not read: written in a language that is not read (fr)",)


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts_take_linear_time(index: KnowledgeIndex, name: str) -> None:
    """One denial with many mentions took 47 s for 50 KB: each looked for all triggers again.

    A text four times as long takes about four times as long, in processor time; a quadratic one takes sixteen.
    """
    text = TEXTS[name]()
    tries = (_seconds(index, text[:48_000]) / _seconds(index, text[:12_000]) for _ in range(3))
    assert any(growth < 9 for growth in tries), "four times the text takes more than nine times as long"


def _seconds(index: KnowledgeIndex, text: str) -> float:
    """Processor time of reading a text that no cache knows."""
    reader = RuleNoteReader(index, embed=False, bounds=ReadingBounds(characters=10**6))
    began = time.process_time()
    reader.read(notes_of({"hostile": text}))
    return max(time.process_time() - began, 0.02)
