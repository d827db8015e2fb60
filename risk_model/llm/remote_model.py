"""A model behind an OpenAI-compatible server of the hospital (vLLM, llama.cpp). The caller passes the transport.

    RemoteLanguageModel("https://llm.hospital.example/v1", "qwen3-8b", transport)

The request carries the JSON schema of the answer, so that the server can constrain decoding. Answers are validated like
those of any other model: a server that ignores the schema causes errors, never findings.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import orjson

from risk_model.core.errors import LanguageModelError
from risk_model.llm.backend import MAX_TOKENS, ModelPrompt
from risk_model.prompts.answers import RISK_LEVELS
from risk_model.prompts.opinion import Opinion, weighed
from risk_model.prompts.risk_prompt import RiskPrompt

_ALTERNATIVES = 20
_UNSEEN = -20.0
"""Of a level that is not among a token's alternatives."""
_LEVEL = re.compile(r'"risk"\s*:\s*"?$')
_REFUSED = frozenset({401, 403, 407})
_NOT_UNDERSTOOD = frozenset({400, 422})


class Transport(Protocol):
    """Sends one body to the server's chat completions: (status, body). Raises LanguageModelError."""

    def __call__(self, body: bytes, deadline: float | None) -> tuple[int, bytes]: ...


@dataclass(slots=True)
class RemoteLanguageModel:
    """RemoteLanguageModel(url, model, transport).answer(prompt) -> JSON of the answer

    The schema is sent as `response_format`; a server that does not understand that gets vLLM's older `guided_json`.
    """

    url: str
    model: str
    transport: Transport
    _guided: bool = field(default=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.url}#{self.model}"

    @property
    def fingerprint(self) -> str:
        """Of the address and the name: what the server serves under it is its own affair."""
        return hashlib.sha256(f"{self.url}\n{self.model}".encode()).hexdigest()

    def answer(self, prompt: ModelPrompt, *, max_tokens: int = MAX_TOKENS, deadline: float | None = None) -> str:
        """Raises LanguageModelError: `refused`, `status`, `not-json`, `too-slow`, `unreachable`, ..."""
        return _said(self._answered(prompt, max_tokens, deadline, {}))

    def opinions(
        self, prompts: Sequence[RiskPrompt], *, reasons: bool = True, deadline: float | None = None
    ) -> Iterator[Opinion]:
        """With log-odds where the server gives the probabilities of its tokens; reasons come with every answer."""
        for prompt in prompts:
            body = self._answered(prompt, MAX_TOKENS, deadline, {"logprobs": True, "top_logprobs": _ALTERNATIVES})
            opinion = prompt.read(_said(body))
            yield replace(opinion, log_odds=_log_odds(body), reason=opinion.reason if reasons else "")

    def _answered(
        self, prompt: ModelPrompt, max_tokens: int, deadline: float | None, also: Mapping[str, object]
    ) -> bytes:
        status, body = self._ask(prompt, max_tokens, deadline, also)
        if status in _NOT_UNDERSTOOD and also:
            return self._answered(prompt, max_tokens, deadline, {})
        if status in _NOT_UNDERSTOOD and not self._guided:
            self._guided = True
            status, body = self._ask(prompt, max_tokens, deadline, also)
        if status != 200:
            raise LanguageModelError("refused" if status in _REFUSED else "status", str(status))
        return body

    def _ask(
        self, prompt: ModelPrompt, max_tokens: int, deadline: float | None, also: Mapping[str, object]
    ) -> tuple[int, bytes]:
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "temperature": 0,
            "seed": 0,
            "max_tokens": max_tokens,
            **also,
        }
        if self._guided:
            asked["guided_json"] = prompt.schema
        else:
            form = {"name": "answer", "schema": prompt.schema, "strict": True}
            asked["response_format"] = {"type": "json_schema", "json_schema": form}
        return self.transport(orjson.dumps(asked), deadline)


def _said(body: bytes) -> str:
    try:
        choice: Mapping[str, Any] = orjson.loads(body)["choices"][0]
        message = choice["message"]
        if message.get("refusal") or choice.get("finish_reason") == "content_filter":
            raise LanguageModelError("refused")
        said = message["content"]
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        raise LanguageModelError("not-json") from None
    if not isinstance(said, str):
        raise LanguageModelError("not-json")
    return said


def _log_odds(body: bytes) -> float | None:
    """Of the token with which the level begins, from the server's alternatives to it; None where it gives none."""
    try:
        written = ""
        for token in orjson.loads(body)["choices"][0]["logprobs"]["content"]:
            if _LEVEL.search(written) and token["token"].strip('" \n'):
                return _of_alternatives(token["top_logprobs"])
            written += token["token"]
    except (LookupError, TypeError, AttributeError, ValueError):
        return None
    return None


def _of_alternatives(alternatives: Sequence[Mapping[str, Any]]) -> float | None:
    """A token counts for the one level it is the beginning of."""
    found: dict[str, list[float]] = {level: [] for level in RISK_LEVELS}
    for item in alternatives:
        begun = item["token"].strip('" \n')
        meant = [level for level in RISK_LEVELS if begun and level.startswith(begun)]
        if len(meant) == 1:
            found[meant[0]].append(math.exp(float(item["logprob"])))
    if not any(found.values()):
        return None
    weights = [math.log(max(sum(listed), math.exp(_UNSEEN))) for listed in found.values()]
    return weighed(weights)[1]
