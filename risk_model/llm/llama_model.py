"""A causal language model in a GGUF file, run by llama.cpp on CPUs, held to the grammar of the answer: without torch.

    LlamaLanguageModel("/models/qwen2.5-coder-1.5b-instruct.gguf", threads=2).answer(prompt) -> JSON of the answer

The beginning that a prompt shares with the one before it is read once (llama.cpp's KV cache): prompts have what they
share first. llama.cpp's grammars are llguidance's, as those of `LocalLanguageModel` are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from artifact_store import sha256_of
from risk_model.core.errors import LanguageModelError, ModelArtifactError
from risk_model.llm.backend import MAX_TOKENS, ModelPrompt
from risk_model.llm.gguf_header import GgufHeader
from risk_model.llm.levels import Levels
from risk_model.llm.llama_server import LlamaServer, llama_package
from risk_model.llm.role_markers import check_no_role_token, framed, marks_of, place_holders, without_marks
from risk_model.llm.weights import find_weights
from risk_model.prompts.compact_format import expanded
from risk_model.prompts.example_prompt import VERSION, ExamplePrompt
from risk_model.prompts.note_prompt import Message, Prompt
from risk_model.prompts.opinion import Opinion, weighed
from risk_model.prompts.risk_prompt import MOST_TOKENS, RiskPrompt

CONTEXT = 8192
"""Tokens of a prompt and its answer together, at most those the model was trained on."""
_LIFT = 100.0
"""Added to the logits of the levels, the same to each: all else then has no probability, and their ratios stay."""
_LEAST = 1e-30
_PROBE = '%llguidance {}\nstart: "qzx"'


class LlamaLanguageModel:
    """LlamaLanguageModel(file, threads=2).answer(prompt) -> JSON of the answer

    `model` is a GGUF file with a chat template, by its path or its name in the cache folder. `threads` is by default
    the number of cores this process may use. Raises MissingExtraError without the package of `riskcards[llama]`,
    ModelArtifactError where there is no such model.
    """

    def __init__(self, model: str | Path, *, threads: int | None = None) -> None:
        llama_package()  # a missing package is said before anything about the file
        folder, file = find_weights(model)
        if file is None:
            raise ModelArtifactError("llama.cpp opens .gguf files only", path=str(model))
        self._weights = folder / file
        header = GgufHeader.of(self._weights)
        self._control, self._marks = header.control, marks_of(header.marks)
        self.server = LlamaServer(self._weights, threads=threads, context=min(CONTEXT, header.context))
        self.name = str(model)
        self._fingerprint = ""
        self._frame_tokens = lru_cache(maxsize=64)(self._tokenized_frame)
        self._check_chat_format()
        self._check_grammars()
        self._levels: Levels | None = None

    @property
    def fingerprint(self) -> str:
        """sha256 over the file and how it is asked; another one than where transformers runs it, for the numbers differ
        a little."""
        if not self._fingerprint:
            self._fingerprint = hashlib.sha256(f"llama.cpp {VERSION} {sha256_of(self._weights)}".encode()).hexdigest()
        return self._fingerprint

    def answer(self, prompt: ModelPrompt, *, max_tokens: int = MAX_TOKENS, deadline: float | None = None) -> str:
        """The likeliest answer that the prompt's grammar allows, token by token; the same answer every time.

        Raises LanguageModelError past the deadline, or where the prompt is longer than the context.
        """
        if not isinstance(prompt, Prompt):
            return self._decoded(self.tokens(prompt.messages), prompt.grammar, max_tokens, deadline)
        # A GGUF file is a model as it came: it has not learned our answers, and is shown some.
        asked = ExamplePrompt(prompt)
        return expanded(self._decoded(self.tokens(asked.messages), asked.grammar, max_tokens, deadline))

    def opinions(
        self, prompts: Sequence[RiskPrompt], *, reasons: bool = True, deadline: float | None = None
    ) -> Iterator[Opinion]:
        """Yields risk levels with their log-odds, and with `reasons` a reason. Raises LanguageModelError."""
        self._levels = self._levels or Levels.of(self)
        for prompt in prompts:
            yield self._opinion(prompt, self._levels, reasons, deadline)

    def encoded(self, text: str) -> list[int]:
        """Returns the tokens of a text, without role markers.

        Raises LanguageModelError if text of a message would still become a role token.
        """
        found = self._tokenized(without_marks(text, self._marks), special=False)
        check_no_role_token(found, self._control)
        return found

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """Returns the tokens of a conversation in the model's chat format, up to where its answer begins.

        Only the role markers of the format become role tokens; the content of a message is always plain text.
        """
        places = place_holders(len(messages))
        given = [{"role": m.role, "content": place} for m, place in zip(messages, places, strict=True)]
        frames = framed(str(self._post("/apply-template", {"messages": given})["prompt"]), places)
        found = list(self._frame_tokens(frames[0], True))
        for message, frame in zip(messages, frames[1:], strict=True):
            found += self.encoded(message.content) + list(self._frame_tokens(frame, False))
        return found

    def _opinion(self, prompt: RiskPrompt, levels: Levels, reasons: bool, deadline: float | None) -> Opinion:
        """llama.cpp reports probabilities as they are before the grammar, and of the likeliest tokens only: here the
        levels alone are left to choose from, by a lift that is the same for all."""
        before = [*self.tokens(prompt.messages), *levels.before]
        weights = self._weights_of(levels.choice, before, deadline)
        level, log_odds = weighed(weights)
        place = weights.index(max(weights))
        chosen = [*before, levels.choice[place], *levels.after[place]]
        reason = self._decoded(chosen, prompt.reason_grammar, MOST_TOKENS, deadline) if reasons else ""
        return prompt.opinion(level, log_odds, reason)

    def _weights_of(self, choice: Sequence[int], before: Sequence[int], deadline: float | None) -> list[float]:
        """Returns the logarithms of the tokens' probabilities, up to one constant."""
        asked = {
            "prompt": before,
            "n_predict": 1,
            "logit_bias": [[token, _LIFT] for token in choice],
            "samplers": ["temperature"],
            "temperature": 1.0,
            "seed": 0,
            "n_probs": len(choice),
            "post_sampling_probs": True,
        }
        try:
            listed = self._post("/completion", asked, deadline)["completion_probabilities"][0]["top_probs"]
            found = {int(item["id"]): float(item["prob"]) for item in listed}
        except (LookupError, TypeError, ValueError):
            raise LanguageModelError("levels", "llama.cpp gave no probabilities") from None
        if not any(token in found for token in choice):
            raise LanguageModelError("levels", "llama.cpp gave no probability of a level")
        return [math.log(max(found.get(token, 0.0), _LEAST)) for token in choice]

    def _decoded(self, given: Sequence[int], grammar: str, most: int, deadline: float | None) -> str:
        asked = {"prompt": given, "n_predict": most, "temperature": 0, "samplers": ["top_k"], "top_k": 1,
                 "grammar": grammar, "cache_prompt": True}  # fmt: skip
        said = self._post("/completion", asked, deadline).get("content")
        if not isinstance(said, str):
            raise LanguageModelError("not-json")
        return said

    def _check_chat_format(self) -> None:
        """Some templates refuse system messages, others drop them; every note would then be left to the rules."""
        try:
            self.tokens([Message(role, "a") for role in ("system", "user", "assistant", "user")])
        except LanguageModelError:
            reason = "its chat template takes no system message followed by a conversation"
            raise ModelArtifactError(reason, path=str(self._weights)) from None

    def _check_grammars(self) -> None:
        """A build of llama.cpp without llguidance would ignore our grammars, and say nothing."""
        if self._decoded(self._tokenized("a", special=False), _PROBE, 8, None) != "qzx":
            raise ModelArtifactError("this llama.cpp does not hold a model to a grammar", path=str(self._weights))

    def _tokenized_frame(self, text: str, first: bool) -> tuple[int, ...]:
        return tuple(self._tokenized(text, special=True, first=first))

    def _tokenized(self, text: str, *, special: bool, first: bool = False) -> list[int]:
        """`first`: with the token that this model has at the beginning of a text, if any."""
        asked = {"content": text, "add_special": first, "parse_special": special}
        return list(self._post("/tokenize", asked)["tokens"])

    def _post(self, path: str, body: Mapping[str, Any], deadline: float | None = None) -> dict[str, Any]:
        return self.server.post(path, body, deadline)
