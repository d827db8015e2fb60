"""Answers in lines: what is taught can be said and comes back whole, and the grammar lets nothing else through."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowledge_index import KnowledgeIndex
from risk_model.core.values import NoteFindings
from risk_model.llm import adapter
from risk_model.llm.batching import answers
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm.weights import find_weights
from risk_model.llm_reader.anchoring import Anchored
from risk_model.llm_tuning.example_sources import generated_examples
from risk_model.llm_tuning.examples import ReaderExample, scores
from risk_model.llm_tuning.lora import TuningSettings, TuningSplit, tune
from risk_model.llm_tuning.note_writer import PARTS
from risk_model.prompts.answers import AnswerFinding, ReaderAnswer
from risk_model.prompts.compact_format import COMPACT, STATUSES, CompactPrompt, expanded, in_lines
from risk_model.prompts.note_prompt import Prompt, windows
from tests.risk_model.conftest import NEEDS
from tests.risk_model.note_texts import note
from tests.risk_model.tiny_models import save_tiny_model


@pytest.fixture(scope="module")
def index() -> KnowledgeIndex:
    return KnowledgeIndex.open_starter()


@pytest.fixture(scope="module")
def examples(index: KnowledgeIndex) -> list[ReaderExample]:
    return [example for part in PARTS for example in generated_examples(index, part, 60)]


def read(index: KnowledgeIndex, example: ReaderExample, text: str) -> NoteFindings:
    anchored = Anchored(index, example.note("n"))
    anchored.add(example.prompt().window, ReaderAnswer.from_text(text), [])
    return NoteFindings(anchored.reading.findings, None, "m", 1, 0, values=anchored.reading.values)


def test_compact_lines_keep_everything_in_the_json(index: KnowledgeIndex, examples: list[ReaderExample]) -> None:
    """A perfect reader is as right in lines as in JSON, in every style."""
    assert examples
    for example in examples:
        in_json = scores(example, read(index, example, example.answer().to_text()))
        lines = scores(example, read(index, example, expanded(in_lines(example.answer()))))
        assert lines == in_json


def test_lines_are_shorter_by_far(examples: list[ReaderExample]) -> None:
    long = sum(len(example.answer().to_text()) for example in examples)
    assert sum(len(in_lines(example.answer())) for example in examples) < long / 3


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_comes_back(status: str) -> None:
    said = ReaderAnswer((AnswerFinding("sore throat", "Pharyngitis", *STATUSES[status]),))
    assert in_lines(said) == f"sore throat\tPharyngitis\t{status}\n"
    assert ReaderAnswer.from_text(expanded(in_lines(said))) == said


@pytest.mark.parametrize(
    "text",
    ["", "fever", "fever\t", "\tpresent\n", "fever\tsick\n", "a\tb\tc\td\n", "cited: x\n", "\n\n", "fever\tpresent"],
)
def test_what_is_no_line_says_nothing(text: str) -> None:
    assert ReaderAnswer.from_text(expanded(text)) == ReaderAnswer()


def test_more_than_an_answer_may_hold_is_cut() -> None:
    assert len(ReaderAnswer.from_text(expanded("fever\tpresent\n" * 40)).findings) == 8


def test_the_grammar_lets_through_what_is_right_and_nothing_else(smollm2: LocalLanguageModel) -> None:
    guide = smollm2.guide
    asked = CompactPrompt(Prompt(next(windows(note())), ("One.", "Two."), "readmission_30d"))
    right = (
        "no chest pain\tabsent\nchest pain\tAngina Pectoris\tpast\nCr 3.4 mg/dL\tcreatinine\t3.4\n"
        "cited: 2\nwhy: It is.\nrisk: high\n"
    )

    def fits(text: str) -> bool:
        matcher = smollm2._matcher(guide, smollm2._matcher.grammar_from_lark(asked.grammar), log_level=0)
        return bool(matcher.consume_tokens(guide.tokenize_str(text))) and matcher.is_accepting()

    assert fits(right)
    for old, new in (
        ("no chest pain\t", "no chest pains\t"), ("\t3.4\n", "\t9.4\n"), ("Cr 3.4 mg", "Cr 9.4 mg"),
        ("\tabsent", "\tdenied"),
        ("cited: 2", "cited: 3"), ("risk: high", "risk: none"), ("\tcreatinine\t", "\trisk_score\t"),
    ):  # fmt: skip
        assert not fits(right.replace(old, new)), new


def test_training_answers_fit_the_grammar(smollm2: LocalLanguageModel, examples: list[ReaderExample]) -> None:
    """Else a model would learn what it may not say."""
    guide = smollm2.guide
    assert examples
    for example in examples:
        asked, text = CompactPrompt(example.prompt()), in_lines(example.answer())
        matcher = smollm2._matcher(guide, smollm2._matcher.grammar_from_lark(asked.grammar), log_level=0)
        assert matcher.consume_tokens(guide.tokenize_str(text)), (example.text, text)
        assert matcher.is_accepting()


def test_a_model_tuned_on_lines_answers_in_json(index: KnowledgeIndex, tmp_path: Path) -> None:
    """Its adapter says how it was taught; alone and together it says the same, held to the grammar."""
    for package in ("torch", "transformers", "llguidance", "peft"):
        pytest.importorskip(package, reason=NEEDS)
    folder = save_tiny_model(tmp_path / "tiny")
    split = TuningSplit(generated_examples(index, "train", 8), generated_examples(index, "validation", 4))
    settings = TuningSettings(rank=2, alpha=4, batch=4, epochs=1, max_tokens=2048, answers=COMPACT)
    base = {"name": "tiny", "fingerprint": adapter.base_fingerprint(*find_weights(folder))}
    manifest = tune(LocalLanguageModel(folder), split, tmp_path / "out", settings, base=base)
    assert manifest["settings"]["answers"] == COMPACT
    tuned_model = LocalLanguageModel(folder, adapter=tmp_path / "out")
    prompts = [example.prompt() for example in generated_examples(index, "test", 4)]
    alone = [tuned_model.answer(prompt, max_tokens=150) for prompt in prompts]
    assert list(answers(tuned_model, prompts, max_tokens=150, batch=3)) == alone
    for prompt, said in zip(prompts, alone, strict=True):
        assert all(finding.quote in prompt.window.shown for finding in ReaderAnswer.from_text(said).findings)
