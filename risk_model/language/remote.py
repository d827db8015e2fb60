"""A model behind an OpenAI-compatible server (vLLM and others) of the hospital. Who speaks HTTP is given, not known.

    RemoteLanguageModel("https://llm.hospital.example/v1", "qwen3-8b", transport)

The answer's schema goes with the request, so that the server holds the model to it while it decodes. What comes back is
checked like any other model's: a server that ignores the schema gives errors, never findings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from risk_model.errors import LanguageModelError
from risk_model.language.backend import MAX_TOKENS, Asked

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

    def answer(self, prompt: Asked, *, max_tokens: int = MAX_TOKENS, deadline: float | None = None) -> str:
        """Raises LanguageModelError: `refused`, `status`, `not-json`, `too-slow`, `unreachable`, ..."""
        status, body = self._ask(prompt, max_tokens, deadline)
        if status in _NOT_UNDERSTOOD and not self._guided:
            self._guided = True
            status, body = self._ask(prompt, max_tokens, deadline)
        if status != 200:
            raise LanguageModelError("refused" if status in _REFUSED else "status", str(status))
        return _said(body)

    def _ask(self, prompt: Asked, max_tokens: int, deadline: float | None) -> tuple[int, bytes]:
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "temperature": 0,
            "seed": 0,
            "max_tokens": max_tokens,
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
