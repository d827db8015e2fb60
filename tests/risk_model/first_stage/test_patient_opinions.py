"""Which windows of the notes a first stage's language model is asked about, and what its opinions come to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from fhir_mapping import Note, Section
from risk_model.core.errors import LanguageModelError
from risk_model.core.tasks import Task
from risk_model.first_stage.deferred_opinions import DeferredOpinions
from risk_model.first_stage.patient_opinions import (
    MOST_WINDOWS,
    ImmediateOpinions,
    ask_model,
    asked_windows,
    put_together,
)
from risk_model.llm_reader.serialization import question_from_json, question_to_json
from risk_model.prompts.note_prompt import WINDOW_CHARACTERS
from risk_model.prompts.opinion import Opinion, Opinions
from risk_model.prompts.risk_prompt import RiskPrompt, key_of
from tests.risk_model.language_fakes import SaysModel, breaks, rambles, refuses
from tests.risk_model.note_texts import note

TASK = "readmission_30d"
HIGH = "risk: high\nwhy: Cr 3.4 mg/dL (baseline 1.2), K 5.6.\n"
_FILLER = "Slept, ate and walked about the ward without any help from the nurses. "


def long_note(source: str, *sections: str, pieces: int = 3) -> Note:
    """`pieces` windows to a section; each names its section and source."""
    text, found = "", []
    for name in sections:
        start = len(text)
        words = f"{name} of {source}. "
        text += f"{words}{_FILLER * ((pieces * WINDOW_CHARACTERS - len(words)) // len(_FILLER))}".rstrip() + "\n"
        found.append(Section(name, name, start, len(text)))
    return Note("", "Note", None, text, tuple(found), source, "read", kind="progress_note")


def test_windows_alternate_between_newest_notes_and_start_with_key_sections() -> None:
    notes = [long_note(f"d{n}", "social_history", "assessment", "plan") for n in range(5)]
    found = asked_windows(notes)
    assert [(w.note_source, w.sections) for w in found] == [(f"d{n}", ("assessment",)) for n in range(4)]
    assert [w.note_source for w in asked_windows(notes[:3])] == ["d0", "d1", "d2", "d0"]
    assert all(notes[int(w.note_source[1])].text[w.start :].startswith(w.text) for w in found)


def test_a_note_without_such_sections_is_asked_about_its_beginning_and_its_end() -> None:
    whole = long_note("d", "other", pieces=6)
    first, last = asked_windows([whole])
    assert first.start == 0
    assert last.start + len(last.text) == len(whole.text)


def test_what_was_copied_is_asked_about_once_and_what_cannot_be_read_not_at_all() -> None:
    unread = replace(note("Assessment: worse."), status="unsupported-format")
    found = asked_windows([note(source="a"), note(source="b"), unread, note("  \n ")])
    assert [w.note_source for w in found] == ["a"]
    assert asked_windows([]) == ()
    assert len(asked_windows([long_note(f"d{n}", "plan") for n in range(9)])) == MOST_WINDOWS


def test_short_notes_are_asked_about_together() -> None:
    (one,) = asked_windows([note("Day 2. Well.", "b"), note("Day 1. Frail.", "a")])
    assert one.text == "Day 2. Well.\n\nDay 1. Frail."
    assert len(asked_windows([note(), *(long_note(f"d{n}", "plan") for n in range(2))])) > 2


def test_an_estimate_counts_once_every_window_was_answered() -> None:
    """And is what the benchmark and training make of the same opinions."""
    grave, calm = Opinion("high", 1.5, "Lactate 9."), Opinion("low", -2.5, "Walks about.")
    whole, partly, failed = Opinions((calm, grave)), Opinions((grave,), waiting=1), Opinions((grave,), failed=1)
    found = put_together([whole, partly, failed, Opinions()])
    assert found.logit[0] == 1.5
    assert found.phrases == (("Lactate 9.", "Walks about."), (), (), ())
    assert len(found.logit) > 1
    assert all(math.isnan(number) for number in found.logit[1:])


@pytest.mark.parametrize("say", [refuses, breaks, rambles])
def test_a_model_that_gives_no_answer_is_counted_and_raises_nothing(say: Any) -> None:
    found = ImmediateOpinions(SaysModel(say), TASK).read([long_note("a", "other"), note("Known asthma.", "b")])
    assert found == Opinions((), failed=2)
    assert not found.whole
    assert isinstance(ask_model(SaysModel(say), [RiskPrompt(asked_windows([note()])[0], TASK)])[0], LanguageModelError)


def test_at_once_asks_once_and_is_asked_again_about_what_failed() -> None:
    model = SaysModel(lambda _: HIGH)
    asking = ImmediateOpinions(model, TASK)
    assert asking.read([note()]).said[0].reason.startswith("Cr 3.4 mg/dL")
    asking.read([note()])
    assert model.asked == 1
    failing = ImmediateOpinions(SaysModel(refuses), TASK)
    failing.read([note()])
    failing.model = model
    assert failing.read([note()]).whole


def test_many_at_once_that_fail_are_asked_one_by_one() -> None:
    class Crowded(SaysModel):
        def answer_many(self, *_: object, **__: object) -> Any: ...

        def opinions(self, prompts: Any, **_: object) -> Any:
            if len(prompts) > 1:
                raise MemoryError
            return iter([prompts[0].read(HIGH)])

    prompts = [RiskPrompt(window, TASK) for window in asked_windows([note("So. " * 200), note("No. " * 200, "b")])]
    found = ask_model(Crowded(lambda _: HIGH), prompts)
    assert [opinion.level for opinion in found if isinstance(opinion, Opinion)] == ["high", "high"]


def test_a_queued_question_is_unchanged_and_does_not_identify_the_note() -> None:
    own = Task("gout", "Gout attack", "an attack of gout", "gout-30d", "30 days")
    (window,) = asked_windows([note(source="DocumentReference/secret-17")])
    for task in (TASK, own):
        kept = question_to_json(RiskPrompt(window, task))
        assert "secret-17" not in str(kept)
        assert key_of("m", question_from_json(kept)) == key_of("m", RiskPrompt(window, task))
    assert "Gout attack" in RiskPrompt(window, own).messages[1].content
    with pytest.raises((KeyError, TypeError)):
        question_from_json({"window": {"text": "x"}, "task": TASK})


def test_what_there_is_comes_at_once_and_the_rest_is_asked_for() -> None:
    class Store:
        def __init__(self) -> None:
            self.there: dict[str, Opinion] = {}
            self.asked: dict[str, RiskPrompt] = {}

        def get(self, keys: Any) -> dict[str, Opinion]:
            return {key: self.there[key] for key in keys if key in self.there}

        def ask(self, wanted: Any) -> None:
            self.asked |= wanted

    store = Store()
    hook = DeferredOpinions("mark", TASK, store)
    assert hook.read([]) == Opinions()
    two = [note("So. " * 200), note("No. " * 200, "b")]
    assert hook.read(two) == Opinions(waiting=2)
    key = next(iter(store.asked))
    store.there[key] = Opinion("low", -1.0)
    assert hook.read(two) == Opinions((Opinion("low", -1.0),), waiting=1)
    assert DeferredOpinions("another", TASK, store).read([note()]).waiting == 1
