"""Answers of several prompts at once are those of each alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowledge_index import KnowledgeIndex
from risk_model.llm.batching import answers
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm_tuning.example_sources import generated_examples
from risk_model.prompts.answers import ReaderAnswer, complete_json
from tests.risk_model.conftest import NEEDS
from tests.risk_model.tiny_models import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalLanguageModel:
    for package in ("torch", "transformers", "llguidance"):
        pytest.importorskip(package, reason=NEEDS)
    folder: Path = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    return LocalLanguageModel(folder)


def test_together_is_as_alone(model: LocalLanguageModel) -> None:
    """Windows of different lengths, so that each is padded by the others; order is kept over several batches."""
    prompts = [example.prompt() for example in generated_examples(KnowledgeIndex.open_starter(), "train", 5)]
    alone = [model.answer(prompt, max_tokens=120) for prompt in prompts]
    assert len(set(alone)) > 1
    assert list(answers(model, prompts, max_tokens=120, batch=3)) == alone


def test_what_comes_is_held_to_the_grammar(model: LocalLanguageModel) -> None:
    """A model of random weights has nothing to say; what it says is an answer all the same."""
    examples = generated_examples(KnowledgeIndex.open_starter(), "train", 3)
    for example, said in zip(examples, answers(model, [e.prompt() for e in examples], max_tokens=400), strict=True):
        answer = ReaderAnswer.from_text(complete_json(said))
        assert all(finding.quote in example.text for finding in answer.findings)
