"""Examples shown to a model that was not tuned: right by our own rules for answers, and never confused with the note."""

from __future__ import annotations

import pytest

from knowledge_index import KnowledgeIndex
from risk_model.llm_reader.anchoring import Anchored
from risk_model.prompts.answers import ReaderAnswer
from risk_model.prompts.compact_format import expanded, in_lines
from risk_model.prompts.example_prompt import EXAMPLES, ExamplePrompt
from risk_model.prompts.note_prompt import Prompt, windows
from tests.risk_model.note_texts import note


@pytest.mark.parametrize(("text", "answer"), EXAMPLES)
def test_an_example_is_an_answer_we_would_keep_whole(text: str, answer: ReaderAnswer) -> None:
    anchored = Anchored(KnowledgeIndex.open_starter(), note(text))
    anchored.add(next(windows(note(text))), ReaderAnswer.from_text(expanded(in_lines(answer))), [])
    reading = anchored.reading
    assert (len(reading.findings), len(reading.values), reading.dropped) == (
        len(answer.findings),
        len(answer.values),
        0,
    )


def test_the_question_comes_last_and_what_comes_before_is_the_same_for_all() -> None:
    first, second = (ExamplePrompt(Prompt(next(windows(note(text))))) for text in ("No fever.", "Cr 3.4 mg/dL."))
    assert first.messages[:-1] == second.messages[:-1]
    assert first.messages[-1] == first.prompt.messages[1]
    assert [message.role for message in first.messages] == ["system", *["user", "assistant"] * len(EXAMPLES), "user"]
