"""Notes read side by side are read as each alone; one that ails does not spoil the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from knowledge_index import KnowledgeIndex
from risk_model.core.errors import LanguageModelError
from risk_model.llm.backend import MAX_TOKENS, ModelPrompt
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm_reader.note_reader import LanguageNoteReader
from risk_model.notes.reading import NoteReading
from risk_model.notes.rule_reader import RuleNoteReader
from risk_model.prompts.answers import AnswerFinding, ReaderAnswer
from tests.risk_model.conftest import NEEDS
from tests.risk_model.language_fakes import SaysModel
from tests.risk_model.note_texts import TEXT, note
from tests.risk_model.tiny_models import save_tiny_model

SAID = ReaderAnswer((AnswerFinding("heart failure", "Heart Failure"),)).to_text()
NOTES = [note("Assessment: heart failure. " * n) for n in (1, 3, 60)]


@pytest.fixture(scope="module")
def rules() -> RuleNoteReader:
    return RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


class Many(SaysModel):
    """Answers many at once; `together` counts how often."""

    together: int = 0

    def answer_many(
        self, prompts: Sequence[ModelPrompt], *, max_tokens: int = MAX_TOKENS, deadline: float | None = None
    ) -> Iterator[str]:
        self.together += 1
        return iter([self.say(prompt) for prompt in prompts])  # type: ignore[arg-type]


def test_many_at_once_are_read_as_each_alone(rules: RuleNoteReader) -> None:
    model = Many(lambda _: SAID)
    found = LanguageNoteReader(model, rules).read_many(NOTES)
    alone = LanguageNoteReader(SaysModel(lambda _: SAID), rules)
    assert found == [alone.read_note(each) for each in NOTES]
    assert (model.together, model.asked) == (1, 0)


def test_a_note_without_a_usable_answer_spoils_no_other(rules: RuleNoteReader) -> None:
    model = Many(lambda prompt: "nonsense" if "Bed 1" in prompt.window.text else SAID)
    found = LanguageNoteReader(model, rules).read_many([note(f"{TEXT} heart failure. Bed {n}.") for n in range(3)])
    assert [type(reading) for reading in found[::2]] == [NoteReading, NoteReading]
    assert isinstance(found[1], LanguageModelError)


def test_what_fails_together_is_tried_one_by_one(rules: RuleNoteReader) -> None:
    class Short(Many):
        def answer_many(self, *_: object, **__: object) -> Iterator[str]:
            raise MemoryError("CUDA out of memory")

    model = Short(lambda _: SAID)
    found = LanguageNoteReader(model, rules).read_many(NOTES[:2])
    assert found
    assert all(isinstance(reading, NoteReading) for reading in found)
    assert model.asked == 2


def test_a_local_model_reads_side_by_side_what_it_reads_alone(rules: RuleNoteReader, tmp_path: Path) -> None:
    for package in ("torch", "transformers", "llguidance"):
        pytest.importorskip(package, reason=NEEDS)
    folder = save_tiny_model(tmp_path)
    notes = [note("Heart failure. Cr 3.4 mg/dL."), note("No fever, no chest pain. Known asthma, on 2 L.")]
    together = LanguageNoteReader(LocalLanguageModel(folder), rules, max_tokens=60).read_many(notes)
    alone = LanguageNoteReader(LocalLanguageModel(folder), rules, max_tokens=60)
    assert together == [alone.read_note(each) for each in notes]
