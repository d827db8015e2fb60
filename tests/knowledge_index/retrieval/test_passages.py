"""Of a long abstract, the part that answers."""

from __future__ import annotations

from knowledge_index.retrieval.passages import best_passage

LONG = " ".join(f"Sentence {word} says nothing of use to anybody who reads it with care." for word in "abcdefgh")


def test_the_sentences_that_share_words_are_shown() -> None:
    text = f"{LONG} Low sodium foretold death. {LONG}"
    passage = best_passage(text, "sodium and death")
    assert "Low sodium foretold death." in passage
    assert passage.startswith("… ")
    assert passage.endswith(" …")
    assert len(passage) < 720


def test_one_endless_sentence_is_cut_between_words() -> None:
    passage = best_passage("word " * 1000, "word")
    assert passage.endswith("word …")
    assert len(passage) <= 702
