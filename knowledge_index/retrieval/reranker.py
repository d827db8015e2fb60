"""Optional reranking: a cross-encoder scores query and passage together and reorders the first results.

    riskcards index search my-index "sepsis mortality" --reranker models/medcpt-cross-encoder

Over a thousand times slower than the walk (each passage runs through a transformer), so it scores only the first
results. Any sequence-classification model with one score per pair can be used, such as MedCPT's cross-encoder (trained
on PubMed searches) or the MiniLM cross-encoders for MS MARCO; the folder needs config, tokenizer and safetensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from artifact_store import disable_telemetry
from knowledge_index.core.errors import EncoderError, not_installed

_BATCH, _TOKENS = 16, 512


class Reranker(Protocol):
    """Scores passages for a query: shape (passages,), higher is better, comparable within one call."""

    name: str

    def score(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]: ...


class CrossEncoder:
    """CrossEncoder("models/medcpt-cross-encoder").score("sepsis mortality", ["Lactate in sepsis. ..."])

    The folder is local, its weights are safetensors, and its code is never executed. Raises `EncoderError` where it
    cannot be read, is another kind of model, or the `llm` extra is not installed.
    """

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        path = Path(folder)
        if not (path / "config.json").is_file():
            raise EncoderError(f"{path} holds no model: a folder with config.json, tokenizer and model.safetensors")
        disable_telemetry()
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
            from transformers.utils import logging
        except ImportError as error:
            raise EncoderError(not_installed(error.name or "torch")) from error
        logging.disable_progress_bar()
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(path), **local)
            self._model = AutoModelForSequenceClassification.from_pretrained(str(path), use_safetensors=True, **local)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise EncoderError(f"{path} cannot be read as a cross-encoder: {str(error).splitlines()[0]}") from error
        if self._model.config.num_labels != 1:
            labels = self._model.config.num_labels
            raise EncoderError(f"this model gives {labels} labels for a pair, a reranker gives one score: {path}")
        if threads:
            torch.set_num_threads(threads)
        self._model.eval()
        self._torch = torch
        self.name = path.name

    def score(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Scores, shape (passages,). Passages longer than the model's limit are truncated; the query never is."""
        out = np.zeros(len(passages), np.float32)
        # Batches of similar length need little padding.
        order = sorted(range(len(passages)), key=lambda at: len(passages[at]))
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            out[part] = self._scores(question, [passages[at] for at in part])
        return out

    def _scores(self, question: str, passages: list[str]) -> NDArray[np.float32]:
        most = min(_TOKENS, getattr(self._model.config, "max_position_embeddings", _TOKENS))
        pairs = self._tokenizer(
            [question] * len(passages), passages, padding=True, truncation="only_second", max_length=most,
            return_tensors="pt",
        )  # fmt: skip
        with self._torch.inference_mode():
            scores: NDArray[np.float32] = self._model(**pairs).logits[:, 0].float().numpy()
        return scores
