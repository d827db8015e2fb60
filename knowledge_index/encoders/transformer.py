"""Any Hugging Face encoder, through transformers and accelerate: needs the extra `[llm]`.

Weights are read from local safetensors files only; a model's own code is never executed.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_store import disable_telemetry, sha256_of
from knowledge_index.core.errors import EncoderError, not_installed
from knowledge_index.encoders.configuration import EncoderConfiguration
from knowledge_index.encoders.long_text import TextPiece, windows
from knowledge_index.encoders.minilm import by_length, plain
from knowledge_index.encoders.protocol import Vectors
from knowledge_index.encoders.sentence_modules import AfterPooling, check_weights, modules_of

_BATCH_TOKENS = {"cpu": 2048}
_BATCH_TOKENS_ELSEWHERE = 32_768
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model",
)  # fmt: skip
# Encodings do not depend on the location of the files (their content is hashed) or on the device.
_NOT_FINGERPRINTED = frozenset({"name", "model", "query_model", "device", "dtype"})


class TransformerEncoder:
    """TransformerEncoder(configuration_named("qwen3-embedding:/models/Qwen3-Embedding-0.6B"))

    `encode` takes documents, `encode_queries` queries, with the configuration's instruction or another, and with the
    query model where there is one. Texts longer than `max_tokens` are truncated; `long_text.encode_long` averages
    pieces instead. A vector does not depend on its batch beyond the rounding of its dtype.

    Raises EncoderError: the extra is missing, a file is missing or not safetensors, or the model cannot do what the
    configuration asks for.
    """

    def __init__(self, configuration: EncoderConfiguration) -> None:
        self.name = configuration.name
        self.configuration = configuration
        self._documents = _Tower(configuration, configuration.model)
        self._queries = self._documents
        if configuration.query_model is not None:
            self._queries = _Tower(configuration, configuration.query_model)
        self.dimensions = configuration.dimensions or self._documents.width
        if self.dimensions > self._documents.width or self._queries.width != self._documents.width:
            raise EncoderError(
                f"{self.name}: {self.dimensions} dimensions are asked for; documents have {self._documents.width}, "
                f"queries {self._queries.width}"
            )
        self.max_tokens = configuration.max_tokens
        self.fingerprint = _fingerprint(configuration, (self._documents, self._queries))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Documents to vectors of shape (len(texts), dimensions), float32."""
        return self._vectors(self._documents, [self.configuration.document(plain(text)) for text in texts], texts)

    def encode_queries(self, texts: Sequence[str], instruction: str | None = None) -> Vectors:
        """Queries to vectors of the same space. `instruction` None means the configuration's."""
        asked = [self.configuration.query(plain(text), instruction) for text in texts]
        return self._vectors(self._queries, asked, texts)

    def pieces(self, text: str, instruction: str | None = None) -> list[TextPiece]:
        """The text in pieces that fit with the document template, or with an instruction the query template."""
        if instruction is None:
            tower, (template, _) = self._documents, self.configuration.document("")
        else:
            tower, (template, _) = self._queries, self.configuration.query("", instruction or None)
        budget = self.max_tokens - tower.length(template)
        if budget < 1:
            raise EncoderError(f"{self.name}: the instruction alone fills its {self.max_tokens} tokens")
        return windows(text, tower.offsets(plain(text)), budget)

    def _vectors(self, tower: _Tower, rendered: Sequence[tuple[str, int]], texts: Sequence[str]) -> Vectors:
        if not rendered:
            return np.zeros((0, self.dimensions), np.float32)
        spans = [(whole, start, start + len(text)) for (whole, start), text in zip(rendered, texts, strict=True)]
        vectors = tower.encode(spans)[:, : self.dimensions]
        if self.configuration.normalise:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        return np.ascontiguousarray(vectors, np.float32)


class _Tower:
    """One model with its tokenizer. Texts are given rendered: (text, start and end of the original text in it)."""

    def __init__(self, configuration: EncoderConfiguration, folder: Path) -> None:
        self._asked = configuration
        self.modules = modules_of(folder)
        self.folder = self.modules.transformer
        self._torch: Any = _library("torch")
        transformers = _library("transformers")
        check_weights(folder)
        folder = self.folder
        device = _device(configuration.device, self._torch)
        try:
            with _quietly(transformers):
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False
                )
                self._model, loading = transformers.AutoModel.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, use_safetensors=True,
                    output_loading_info=True, dtype=configuration.dtype, **_placement(device),
                )  # fmt: skip
        except ImportError as error:
            raise EncoderError(not_installed(error.name or "accelerate")) from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise EncoderError(f"{folder}: cannot be opened as a model: {_first_line(error)}") from error
        # A pooler is unused and often not saved; any other missing weight would be random.
        missing = sorted(name for name in loading["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise EncoderError(f"{folder}: the weights lack {missing[0]} and {len(missing) - 1} more")
        if not getattr(self._tokenizer, "is_fast", False):
            raise EncoderError(f"{folder}: a tokenizer.json is needed (save the tokenizer with transformers once)")
        self._model.eval()
        self._tokenizer.truncation_side = "right"
        self.dtype = str(self._model.dtype).removeprefix("torch.")
        self._hidden = self._hidden_size()
        self._after_pooling = AfterPooling(self.modules, self._hidden)
        self.width = self._after_pooling.width
        self._end = self._end_of_text()
        self._left = configuration.padding_side == "left"
        self._positions = self._left and self._positions_needed()
        if configuration.bidirectional:
            self._check_bidirectional("this model stays causal whatever mask it gets; set bidirectional: false")
        elif getattr(self._model.config, "use_bidirectional_attention", False):
            self._check_bidirectional("this transformers reads the model as causal: install a newer one")

    def length(self, text: str) -> int:
        """The number of tokens of a rendered text, including special tokens."""
        return len(self._tokens(text)[0])

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """The (start, end) characters of every token of a text."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [(start, end) for start, end in found["offset_mapping"] if end > start]

    def encode(self, spans: Sequence[tuple[str, int, int]]) -> NDArray[np.float32]:
        """Vectors after pooling and Dense layers, shape (len(spans), width); in batches of similar length."""
        tokens = [self._tokens(text) for text, _, _ in spans]
        most = _BATCH_TOKENS.get(self._model.device.type, _BATCH_TOKENS_ELSEWHERE)
        out = np.empty((len(spans), self._hidden), np.float32)
        for rows in by_length([len(ids) for ids, _ in tokens], most):
            weights = [self._weights(tokens[row][1], *spans[row][1:]) for row in rows]
            out[rows] = self._batch([tokens[row][0] for row in rows], weights)
        return self._after_pooling(out)

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and their characters, with the end mark last where one is configured."""
        max_length = self._asked.max_tokens - (self._end is not None)
        found = self._tokenizer(text, truncation=True, max_length=max_length, return_offsets_mapping=True)
        ids, offsets = list(found["input_ids"]), list(found["offset_mapping"])
        if self._end is not None and ids[-1:] != [self._end]:
            return [*ids, self._end], [*offsets, (0, 0)]
        return ids, offsets

    def _weights(self, offsets: Sequence[tuple[int, int]], start: int, end: int) -> NDArray[np.float32]:
        """The weight of each token in the pooled vector, shape (tokens,), not all zero."""
        weights = np.zeros(len(offsets), np.float32)
        if self._asked.pooling == "mean":
            inside = [last > start and first < end for first, last in offsets]
            # A text without tokens of its own is pooled over the template.
            weights[:] = inside if self._asked.pool_over == "text" and any(inside) else 1
        else:
            weights[0 if self._asked.pooling == "cls" else -1] = 1
        return weights

    def _batch(self, ids: Sequence[list[int]], weights: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        torch = self._torch
        longest = max(map(len, ids))
        filler = self._tokenizer.pad_token_id
        padded = torch.full((len(ids), longest), 0 if filler is None else filler)
        mask, share = torch.zeros_like(padded), torch.zeros(padded.shape)
        for row, (known, weight) in enumerate(zip(ids, weights, strict=True)):
            place = slice(longest - len(known), longest) if self._left else slice(0, len(known))
            padded[row, place], mask[row, place] = torch.tensor(known), 1
            share[row, place] = torch.from_numpy(weight / weight.sum())
        with torch.inference_mode():
            hidden = self._forward(padded, mask)
            pooled = torch.einsum("nld,nl->nd", hidden.float(), share.to(hidden.device))
        found: NDArray[np.float32] = pooled.cpu().numpy()
        if not np.isfinite(found).all():
            raise EncoderError(f"{self.folder}: the model gives no numbers in {self.dtype}; set another dtype")
        return found

    def _forward(self, padded: Any, mask: Any) -> Any:
        """Hidden states of the last layer, shape (texts, tokens, width)."""
        feed = {
            "input_ids": padded,
            "attention_mask": self._full_attention(mask) if self._asked.bidirectional else mask,
        }
        if self._positions:
            feed["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        device = self._model.device
        return self._model(**{key: value.to(device) for key, value in feed.items()}).last_hidden_state

    def _full_attention(self, mask: Any) -> Any:
        """A four-dimensional mask that replaces the model's causal one: attention to every non-padding token."""
        hidden = (1 - mask[:, None, None, :]).to(self._model.dtype) * self._torch.finfo(self._model.dtype).min
        return hidden.expand(-1, 1, mask.shape[1], -1)

    def _check_bidirectional(self, otherwise: str) -> None:
        """Raises EncoderError for a model that stays causal: its first token must depend on the last."""
        ids = self._torch.tensor([[1, 2, 3], [1, 2, 4]])
        with self._torch.inference_mode():
            first = self._forward(ids, self._torch.ones_like(ids))[:, 0].float()
        if self._torch.equal(first[0], first[1]):
            raise EncoderError(f"{self.folder}: {otherwise}")

    def _hidden_size(self) -> int:
        config = self._model.config
        width = getattr(config, "hidden_size", None) or getattr(config, "dim", None)
        if width is None or getattr(config, "is_encoder_decoder", False):
            raise EncoderError(f"{self.folder}: a model of type {config.model_type} is no text encoder we can run")
        return int(width)

    def _positions_needed(self) -> bool:
        """Whether a left-padded model needs explicit positions; RoBERTa models compute them."""
        kind = str(self._model.config.model_type)
        if "position_ids" in inspect.signature(self._model.forward).parameters:
            return "roberta" not in kind and kind != "camembert"
        if kind in {"mpnet"}:
            return False
        raise EncoderError(
            f"{self.folder}: a model of type {kind} cannot be padded on the left; set padding_side: right"
        )

    def _end_of_text(self) -> int | None:
        if self._asked.end_mark is None:
            return None
        known = self._tokenizer.convert_tokens_to_ids(self._asked.end_mark)
        if known is None or known == self._tokenizer.unk_token_id:
            raise EncoderError(f"{self.folder}: its tokenizer has no token {self._asked.end_mark!r} (end_mark)")
        return int(known)


@contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """Suppresses progress bars and loading reports: missing weights are checked explicitly."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _fingerprint(configuration: EncoderConfiguration, towers: Sequence[_Tower]) -> str:
    """32 hex digits of the sha256 over weights, tokenizer, model and encoder configuration, and dtype."""
    asked = {key: value for key, value in asdict(configuration).items() if key not in _NOT_FINGERPRINTED}
    described: dict[str, Any] = {"configuration": asked, "files": []}
    for tower in towers:
        names = [path.name for path in tower.folder.glob("*.safetensors*")] + ["config.json", *_TOKENIZER_FILES]
        hashes = {name: sha256_of(tower.folder / name) for name in names if (tower.folder / name).is_file()}
        described["files"].append([tower.dtype, hashes])
        if dense := tower.modules.files:
            kinds = [module.kind for module in tower.modules.after]
            described["files"].append([kinds, [sha256_of(path) for path in dense]])
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def _device(asked: str, torch: Any) -> str:
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "auto"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _placement(device: str) -> dict[str, Any]:
    """Arguments of `from_pretrained`; `auto` lets accelerate distribute the model over the devices."""
    return {} if device == "cpu" else {"device_map": device}


def check_packages() -> None:
    """Raises EncoderError where a package of the extra is missing, without importing it."""
    for name in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(name) is None:
            raise EncoderError(not_installed(name))


def _library(name: str) -> Any:
    disable_telemetry()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EncoderError(not_installed(name)) from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
