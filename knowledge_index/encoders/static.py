"""A static encoder: the word piece embeddings of the default model, weighted and averaged; no inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from knowledge_index.encoders.long_text import TextPiece
from knowledge_index.encoders.minilm import MODEL, TOKENIZER, MiniLMEncoder, package_file, plain
from knowledge_index.encoders.onnx_file import tensors

_FIRST_WORD = 1996
"""From this index on, the vocabulary is sorted by frequency; before are characters and reserved tokens."""
_SMOOTHING = 1e-3


class StaticEncoder:
    """The word pieces' own vectors (all-MiniLM-L6-v2, int8), summed with weights of smooth inverse frequency.

    After Arora, Liang and Ma, "A simple but tough-to-beat baseline for sentence embeddings" (ICLR 2017), with their
    weight a / (a + p), a = .001. p is estimated by Zipf's law from a word's rank in the vocabulary, without a
    corpus. Order and context are ignored: it matches shared and related words. Any length; 12 MB; measurements are in
    `docs/encoders.md`.
    """

    name = "static"
    dimensions = 384
    fingerprint = f"static1-{MODEL[2][:12]}-{TOKENIZER[2][:12]}"

    def __init__(self) -> None:
        self._table, self._scale = tensors(
            package_file(*MODEL), ("word_embeddings.weight_q", "word_embeddings.weight_scale")
        )
        count = len(self._table)
        rank = np.maximum(np.arange(count) - _FIRST_WORD + 1, 1)
        frequency = 1 / (rank * np.log(count))
        self._weights = self._scale[:, 0] * (_SMOOTHING / (_SMOOTHING + frequency)).astype(np.float32)
        self._tokenizer = MiniLMEncoder.read_tokenizer(truncate=False)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), 384), float32, L2-normalised; zeros for a text without a word piece."""
        found = self._tokenizer.encode_batch([plain(text) for text in texts], add_special_tokens=False)
        out = np.zeros((len(texts), self.dimensions), np.float32)
        for row, item in enumerate(found):
            # Each distinct word piece once, times its count: records are repetitive.
            ids, times = np.unique(np.array(item.ids, np.int64), return_counts=True)
            out[row] = (self._weights[ids] * times) @ self._table[ids].astype(np.float32)
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True).clip(1e-12), np.float32)

    def pieces(self, text: str, instruction: str | None = None) -> list[TextPiece]:
        """The whole text as one piece."""
        return [TextPiece(text, 1)] if text.strip() else []
