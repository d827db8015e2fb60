"""The labelled sentences are what the benchmark says, and it counts rightly."""

from __future__ import annotations

import pytest

from benchmarks.note_precision import PARTS, counts, labelled, measured, read_all
from knowledge_index import KnowledgeIndex
from risk_model import RuleNoteReader


@pytest.fixture(scope="module")
def reader() -> RuleNoteReader:
    return RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


def test_at_least_four_hundred_sentences_half_of_them_held_out() -> None:
    texts = {part: {sentence.text for sentence in labelled(part)} for part in PARTS}
    assert len(texts["held_out"]) >= 200
    assert sum(map(len, texts.values())) >= 400
    assert not texts["held_out"] & texts["dev"]


def test_what_was_worked_on_stays_right(reader: RuleNoteReader) -> None:
    result = measured([found for _, found, _ in read_all(labelled("dev"), reader)])
    assert result["findings"]["precision"]["value"] >= 0.99
    assert result["present"]["recall"]["value"] >= 0.95
    assert result["values"]["precision"]["value"] >= 0.99
    assert result["values"]["recall"]["value"] >= 0.98


def test_a_wrong_reading_is_counted_as_one(reader: RuleNoteReader) -> None:
    sentence = labelled("dev")[0]
    wrong = next(read for read in labelled("dev") if read.text == "Sodium 128 mmol/L (135-145)")
    ((_, found, _),) = read_all([wrong], reader)
    assert (found["values read"], found["values right"], found["values labelled"]) == (1, 1, 1)
    empty = sentence.__class__("kind", "Pneumonia.", (), ())
    ((_, found, errors),) = read_all([empty], reader)
    assert (found["present read"], found["present right"], errors) == (1, 0, ["+Pneumonia (Pneumonia)"])
    assert counts is not None
