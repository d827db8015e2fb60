"""Planted identifiers are found, and the benchmark counts what is missed and what is removed in error."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.deidentification import counted, measured, removed
from benchmarks.planted_identifiers import PARTS, Planted, PlantedNote, notes
from risk_model.deidentification import DeidentifiedText


def test_recall_and_precision_do_not_fall() -> None:
    for part, recall, precision in (("development", 0.99, 0.99), ("held_out", 0.985, 0.97)):
        figures, _ = measured(notes(part, 40), known=False)
        assert figures["planted"] > 500
        assert figures["recall"] >= recall
        assert figures["precision"] >= precision


def test_parts_share_no_style_and_planted_places_are_right() -> None:
    assert not PARTS["development"].keys() & PARTS["held_out"].keys()
    for note in notes("held_out", 8):
        assert all(note.text[p.start : p.end].strip() for p in note.planted)


def test_an_identifier_that_stays_is_counted() -> None:
    note = PlantedNote("x", "Seen by qwerty today", (Planted(8, 14, "name"),), frozenset())
    counts, errors = counted(note, known=False)
    assert (counts["planted name"], counts["removed name"], len(errors)) == (1, 0, 1)
    assert not removed(note.planted[0], DeidentifiedText(note.text), note.text)


def test_the_documentation_has_the_measured_figures() -> None:
    root = Path(__file__).parents[2]
    results = json.loads((root / "benchmarks" / "results" / "deidentification.json").read_text("utf-8"))
    page = (root / "docs" / "deidentification.md").read_text("utf-8")
    for part, ways in results.items():
        for way, found in ways.items():
            row = f"| {part.replace('_', '-')}, {way} | {found['planted']:,} | {found['recall']:.3f} |"
            assert row in page
