"""An encoder's configuration: a model folder and how to use it as its authors intended.

::

    # encoder.yaml (or .json); folders are relative to this file
    model: Qwen3-Embedding-0.6B      # config.json, tokenizer.json and *.safetensors, as downloaded from Hugging Face
    query_model: null                # another folder where queries have a model of their own (MedCPT)
    pooling: last_token              # mean | cls | last_token
    pool_over: all                   # all | text: without the template's tokens (LLM2Vec)
    bidirectional: false             # true: full attention in a causal model (LLM2Vec)
    max_tokens: 8192                 # longer texts are truncated, or averaged over chunks for whole records
    query_template: "Instruct: {instruction}\nQuery:{text}"
    instruction: Given a clinical question, retrieve passages that answer it
    document_template: "{text}"
    end_mark: "<|endoftext|>"       # the last token, added where the tokenizer does not
    padding_side: left               # right | left
    normalise: true                  # false for records only: an index needs unit vectors
    dimensions: null                 # keep the first N (models trained for it, such as Qwen3-Embedding)
    dtype: auto                      # auto (as in the files) | float32 | bfloat16 | float16
    device: auto                     # auto | cpu | cuda | cuda:0 | mps

Names of configured encoders: `encoder.yaml`; `FAMILY:FOLDER` for a configuration shipped with riskcards (see
`families`); `hf:FOLDER`, where the folder (its Pooling module) or the model type gives the pooling. Dense layers of a
folder (`sentence_modules`) are applied under every name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from artifact_store import DocumentError, read_document
from knowledge_index.core.errors import EncoderError
from knowledge_index.encoders.sentence_modules import modules_of, read_json

Pooling = Literal["mean", "cls", "last_token"]
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "pooling": get_args(Pooling),
    "pool_over": ("all", "text"),
    "padding_side": ("right", "left"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
}
SUFFIXES = (".yaml", ".yml", ".json")
_CAUSAL = frozenset({"qwen2", "qwen3", "llama", "mistral", "gemma", "gemma2", "gemma3_text", "gpt2", "phi", "phi3"})
_BIDIRECTIONAL = frozenset(
    {
        "bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "electra", "deberta", "deberta-v2", "albert",
        "camembert", "modernbert", "nomic_bert",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EncoderConfiguration:
    """The keys are described in the module docstring. `name` selects the encoder and does not affect its vectors."""

    name: str
    model: Path
    pooling: Pooling
    query_model: Path | None = None
    pool_over: str = "all"
    bidirectional: bool = False
    max_tokens: int = 512
    query_template: str = "{text}"
    instruction: str = ""
    document_template: str = "{text}"
    end_mark: str | None = None
    padding_side: str = "right"
    normalise: bool = True
    dimensions: int | None = None
    dtype: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raises EncoderError for an invalid value."""
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise self._wrong(name, f"is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}")
        for name in ("query_template", "document_template"):
            if getattr(self, name).count("{text}") != 1:
                raise self._wrong(name, "must hold {text} exactly once")
        if "{instruction}" in self.document_template:
            raise self._wrong(
                "document_template", "takes no {instruction}: documents are encoded once, for any question"
            )
        for name, least in (("max_tokens", 8), ("dimensions", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise self._wrong(name, f"is {value}; at least {least} is needed")

    def _wrong(self, key: str, words: str) -> EncoderError:
        return EncoderError(f"encoder configuration {self.name}: {key} {words}")

    def query(self, text: str, instruction: str | None = None) -> tuple[str, int]:
        """(rendered query, offset of `text` in it). `instruction` None means the configuration's.

        >>> asks = EncoderConfiguration("e5", Path("e5"), "mean", query_template="query: {text}")
        >>> asks.query("low sodium")
        ('query: low sodium', 7)
        """
        asked = self.instruction if instruction is None else instruction
        return _filled(self.query_template, text, asked)

    def document(self, text: str) -> tuple[str, int]:
        """(rendered document, offset of `text` in it)."""
        return _filled(self.document_template, text)


def _filled(template: str, text: str, instruction: str = "") -> tuple[str, int]:
    # Split before filling: an instruction may contain "{text}" literally.
    before, after = (part.replace("{instruction}", instruction) for part in template.split("{text}"))
    return f"{before}{text}{after}", len(before)


def in_folder(family: EncoderConfiguration, name: str, folder: Path) -> EncoderConfiguration:
    """A shipped configuration for the model in `folder`."""
    asks = None if family.query_model is None else folder / family.query_model
    return replace(family, name=f"{name}:{folder}", model=folder / family.model, query_model=asks)


def of_file(path: Path) -> EncoderConfiguration:
    """The configuration in a YAML or JSON file. Raises EncoderError where it cannot be read or is invalid."""
    try:
        raw = read_document(path)
    except DocumentError as error:
        raise EncoderError(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        raise EncoderError(f"{path}: a mapping of keys such as `model` and `pooling` is needed")
    known = {item.name: str(item.type) for item in fields(EncoderConfiguration) if item.name != "name"}
    values = {key: value for key, value in raw.items() if value is not None}
    for key, value in values.items():
        if key not in known:
            raise EncoderError(f"{path}: unknown key {key!r}; known are {', '.join(known)}")
        _check_type(path, key, value, known[key])
    for key in ("model", "pooling"):
        if key not in values:
            raise EncoderError(f"{path}: {key} is missing")
    folders = {key: path.parent / Path(values[key]).expanduser() for key in ("model", "query_model") if key in values}
    return EncoderConfiguration(name=str(path), **{**values, **folders})


def _check_type(path: Path, key: str, value: Any, declared: str) -> None:
    kind = bool if declared == "bool" else int if declared.startswith("int") else str
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {bool: "true or false", int: "a whole number", str: "text"}[kind]
        raise EncoderError(f"{path}: {key} must be {words}, not {value!r}")


def of_folder(folder: Path) -> EncoderConfiguration:
    """The configuration of a model folder. Pooling comes from the folder's Pooling module (sentence-transformers), else
    from the model type: mean for bidirectional models, the last token for causal ones. Raises EncoderError where
    neither is known.
    """
    modules = modules_of(folder)
    described = read_json(modules.transformer / "config.json")
    said = read_json(modules.pooling / "config.json", missing={})
    found: dict[str, Any] = {"pooling": _pooling(folder, described, said)}
    if said.get("include_prompt") is False:
        found["pool_over"] = "text"
    limit = read_json(modules.transformer / "sentence_bert_config.json", missing={}).get("max_seq_length")
    positions = limit or described.get("max_position_embeddings")
    # RoBERTa numbers positions from two: 514 of them hold 512 tokens.
    found["max_tokens"] = min(positions - 2 * (positions % 512 == 2), 8192) if isinstance(positions, int) else 512
    prompts = read_json(folder / "config_sentence_transformers.json", missing={}).get("prompts") or {}
    for key, names in (("query_template", ("query",)), ("document_template", ("document", "passage"))):
        prompt = next((prompts[name] for name in names if isinstance(prompts.get(name), str)), "")
        if prompt:
            found[key] = prompt.replace("{text}", "") + "{text}"
    return EncoderConfiguration(name=f"hf:{folder}", model=folder, **found)


def _pooling(folder: Path, described: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    modes = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last_token",
    }
    chosen = [pooling for key, pooling in modes.items() if said.get(key) is True]
    if said.get("pooling_mode") in _CHOICES["pooling"]:
        chosen = [said["pooling_mode"]]
    if len(chosen) == 1:
        return chosen[0]
    kind = described.get("model_type")
    if not said and kind in _BIDIRECTIONAL:
        return "mean"
    if not said and kind in _CAUSAL:
        return "last_token"
    raise EncoderError(
        f"{folder} does not say how its vectors are pooled (model type {kind!r}): write a configuration file with "
        f"`model: {folder}` and `pooling: mean`, `cls` or `last_token`, as its authors tell, and name that file"
    )
