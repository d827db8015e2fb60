"""Small models with random weights, of the same architectures as those people download, and the plainest way to run
them: one text at a time, no batch, no padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="language models are not installed: make llm")
transformers = pytest.importorskip("transformers", reason="language models are not installed: make llm")

WORDS = [
    "the",
    "patient",
    "has",
    "low",
    "sodium",
    "heart",
    "failure",
    "was",
    "admitted",
    "with",
    "sepsis",
    "and",
    "acute",
    "kidney",
    "injury",
    "lactate",
    "falls",
    "query",
    "passage",
    "given",
    "a",
    "clinical",
    "question",
    "retrieve",
    "passages",
    "that",
    "answer",
    "it",
    "instruct",
    "follow",
    "up",
    "in",
    "one",
    "week",
    "of",
    "discharge",
]
_SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 120,
    "max_position_embeddings": 256,
}  # fmt: skip


def tiny(folder: Path, kind: str, seed: int = 0) -> Path:
    """A model folder as Hugging Face lays it out. `kind`: bert, qwen2, qwen3, llama, mistral."""
    torch.manual_seed(seed)
    causal = _SHAPE | {"num_key_value_heads": 2, "pad_token_id": 0}
    made: Any
    if kind == "bert":
        made = transformers.BertModel(transformers.BertConfig(**_SHAPE), add_pooling_layer=False)
    elif kind == "qwen2":
        made = transformers.Qwen2Model(transformers.Qwen2Config(**causal))
    elif kind == "qwen3":
        made = transformers.Qwen3Model(transformers.Qwen3Config(**causal, head_dim=8))
    elif kind == "llama":
        made = transformers.LlamaModel(transformers.LlamaConfig(**causal))
    else:
        made = transformers.MistralModel(transformers.MistralConfig(**causal, head_dim=8, sliding_window=None))
    for value in made.parameters():
        # Freshly made models are so near to zero that everything looks alike.
        torch.nn.init.normal_(value, std=0.3)
    made.eval().save_pretrained(folder)
    tokenizer(both_ends=kind == "bert").save_pretrained(folder)
    return folder


def tokenizer(*, both_ends: bool) -> Any:
    """Words, then single letters; BERT's kind puts a mark at either end, the causal kind one at the beginning."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<|endoftext|>"]
    letters = [*"abcdefghijklmnopqrstuvwxyz:.,"]
    known = dict.fromkeys([*marks, *letters, *(f"##{letter}" for letter in letters[:26]), *WORDS])
    inner = Tokenizer(models.WordPiece({word: place for place, word in enumerate(known)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    single = "[CLS] $A [SEP]" if both_ends else "[CLS] $A"
    inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        additional_special_tokens=["<|endoftext|>"],
    )  # fmt: skip


class Plain:
    """A model run on one list of token ids at a time."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModel.from_pretrained(folder).eval()

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def hidden(self, ids: list[int], *, both_ways: bool = False) -> NDArray[np.float32]:
        """States of the last layer, shape (tokens, width); `both_ways` switches off every layer's causality."""
        feed: dict[str, Any] = {"input_ids": torch.tensor([ids])}
        if both_ways:
            feed["attention_mask"] = torch.zeros((1, 1, len(ids), len(ids)))
        with torch.no_grad():
            states = self.model(**feed).last_hidden_state[0]
        found: NDArray[np.float32] = states.numpy()
        return found


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return length
