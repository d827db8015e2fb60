"""The optional cross-encoder: its scores against a plain computation, and what it may change about an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_index import EncoderError, KnowledgeIndex, Query
from knowledge_index.retrieval.reranker import CrossEncoder

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *SPECIAL,
    "sepsis",
    "lactate",
    "heart",
    "failure",
    "readmission",
    "falling",
    "in",
    "of",
    "the",
    "first",
    "hours",
)
PASSAGES = ["Lactate in sepsis", "Heart failure " * 40, "readmission", "Falling lactate in the first hours of sepsis"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, kept as any cross-encoder is."""
    torch = pytest.importorskip("torch", reason="needs torch: make llm")
    transformers = pytest.importorskip("transformers", reason="needs transformers: make llm")
    folder = tmp_path_factory.mktemp("models") / "tiny-cross-encoder"
    folder.mkdir()
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=48, num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder, safe_serialization=True)
    transformers.BertTokenizer(vocab={word: at for at, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


def test_batched_scores_equal_single_scores(model_folder: Path) -> None:
    """Batched, padded and sorted by length, a pair scores as it does by itself: tokens, segments and mask by hand."""
    import torch
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(model_folder).eval()
    question = "sepsis lactate"
    many = PASSAGES * 9
    scores = CrossEncoder(model_folder).score(question, many)
    assert scores.shape == (36,)
    number = {word: at for at, word in enumerate(WORDS)}
    for passage, score in zip(many[:5], scores[:5], strict=True):
        first = [number["[CLS]"], *(number[word] for word in question.split()), number["[SEP]"]]
        rest = [number.get(word.lower(), number["[UNK]"]) for word in passage.split()][: 48 - len(first) - 1]
        ids = torch.tensor([[*first, *rest, number["[SEP]"]]])
        segments = torch.tensor([[0] * len(first) + [1] * (len(rest) + 1)])
        with torch.no_grad():
            alone = float(model(input_ids=ids, token_type_ids=segments).logits[0, 0])
        assert score == pytest.approx(alone, abs=1e-4)
    assert len(set(np.round(scores[:4], 4))) == 4


def test_results_are_in_the_reranker_s_order(index: KnowledgeIndex, model_folder: Path) -> None:
    model = CrossEncoder(model_folder)
    query = Query("heart failure readmission")
    plain = index.retrieve(query, 5)
    again = index.retrieve(query, 5, reranker=model)
    texts = {item.pmid: f"{item.title}\n{index_text(index, item.pmid)}" for item in again.evidence}
    scores = model.score(query.text, list(texts.values()))
    assert list(scores) == sorted(scores, reverse=True)
    assert {item.pmid for item in plain.evidence} == {item.pmid for item in again.evidence}
    assert len(again.evidence) > 1
    assert all(one.score >= other.score for one, other in zip(again.evidence, again.evidence[1:], strict=False))


def index_text(index: KnowledgeIndex, pmid: str) -> str:
    return next(a.abstract for a in map(index.article, range(len(index))) if a.pmid == pmid)


class Backwards:
    """The last shall be first."""

    name = "backwards"

    def score(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        self.asked = (question, list(passages))
        return np.arange(len(passages), dtype=np.float32)


def test_reranking_keeps_cutoffs_and_excludes_retracted_articles(index: KnowledgeIndex) -> None:
    model = Backwards()
    plain = index.retrieve(Query("heart failure readmission"), 100)
    again = index.retrieve(Query("heart failure readmission"), 100, reranker=model)
    assert [item.pmid for item in again.evidence] == [item.pmid for item in reversed(plain.evidence)]
    assert again.withheld == plain.withheld > 0
    assert model.asked[0] == "heart failure readmission"
    assert model.asked[1]
    assert not any("withdrawn" in passage for passage in model.asked[1])


@pytest.mark.parametrize("case", ["nothing", "no config", "two labels", "pickled weights", "no weights"])
def test_other_model_folders_are_rejected(model_folder: Path, tmp_path: Path, case: str) -> None:
    folder = tmp_path / "model"
    if case != "nothing":
        folder.mkdir()
    for path in model_folder.iterdir() if case not in {"nothing", "no config"} else ():
        (folder / path.name).write_bytes(path.read_bytes())
    if case == "two labels":
        config = json.loads((folder / "config.json").read_text())
        config |= {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
        (folder / "config.json").write_text(json.dumps(config))
    if case == "pickled weights":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    if case == "no weights":
        (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(EncoderError, match="model"):
        CrossEncoder(folder)
