"""A language model that never sees who a patient is: prompts are de-identified, answers are put back into the words of
the original, so that a quote is found in the note at its place.

    DeidentifyingModel(RemoteLanguageModel(url, name, transport))
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

from risk_model.deidentification import DeidentifiedText, Deidentifier
from risk_model.llm.backend import MAX_TOKENS, ModelPrompt, Weighs
from risk_model.llm.remote_model import RemoteLanguageModel
from risk_model.prompts.note_prompt import Message
from risk_model.prompts.opinion import Opinion
from risk_model.prompts.risk_prompt import RiskPrompt

VERSION = "1"
"""Of the rules; readings under another one are asked for again."""


@dataclass(slots=True)
class DeidentifyingModel:
    """DeidentifyingModel(model).answer(prompt) -> the answer's JSON, in the words of the original prompt

    Dates are shifted by an offset of the prompt's own, from a key that lives as long as this object.
    """

    model: RemoteLanguageModel
    _by: Deidentifier = field(default_factory=lambda: Deidentifier(secrets.token_bytes(32)), repr=False)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def fingerprint(self) -> str:
        return sha256(f"{self.model.fingerprint}\ndeidentified {VERSION}".encode()).hexdigest()

    def answer(self, prompt: ModelPrompt, *, max_tokens: int = MAX_TOKENS, deadline: float | None = None) -> str:
        """Raises LanguageModelError, as the model does."""
        asked = _DeidentifiedPrompt(prompt, self._by)
        return asked.restored(self.model.answer(asked, max_tokens=max_tokens, deadline=deadline))

    def opinions(
        self, prompts: Sequence[RiskPrompt], *, reasons: bool = True, deadline: float | None = None
    ) -> Iterator[Opinion]:
        """As the model's, with reasons in the words of the original. Raises LanguageModelError."""
        asked: Any = [_DeidentifiedPrompt(prompt, self._by) for prompt in prompts]
        model: Weighs = self.model
        return model.opinions(asked, reasons=reasons, deadline=deadline)


@dataclass(slots=True)
class _DeidentifiedPrompt:
    """A prompt without identifiers. The system message is ours and has none."""

    original: Any
    by: Deidentifier
    messages: tuple[Message, ...] = field(init=False)
    _texts: tuple[DeidentifiedText, ...] = field(init=False)

    def __post_init__(self) -> None:
        messages: Sequence[Message] = self.original.messages
        subject = "\n".join(message.content for message in messages)
        texts = {
            number: self.by.text(message.content, subject, datetime.now(UTC).year)
            for number, message in enumerate(messages)
            if message.role != "system"
        }
        self._texts = tuple(texts.values())
        self.messages = tuple(
            Message(message.role, texts[number].text) if number in texts else message
            for number, message in enumerate(messages)
        )

    @property
    def schema(self) -> Mapping[str, Any]:
        """The schema of the answer; sentences of the note that it lists are replaced as in the messages."""
        replaced: Mapping[str, Any] = self._replaced(self.original.schema)
        return replaced

    @property
    def grammar(self) -> str:
        """Only for local models, which see the original."""
        return ""

    def read(self, said: str) -> Opinion:
        opinion: Opinion = self.original.read(self.restored(said))
        return opinion

    def restored(self, said: str) -> str:
        """Returns an answer, JSON or lines, in the words of the original."""
        try:
            parsed = orjson.loads(said)
        except orjson.JSONDecodeError:
            return self._back(said)
        return orjson.dumps(_strings(parsed, self._back)).decode()

    def _back(self, said: str) -> str:
        for text in self._texts:
            said = text.restored(said)
        return said

    def _replaced(self, value: Any) -> Any:
        def applied(text: str) -> str:
            for known in self._texts:
                text = known.applied(text)
            return text

        return _strings(value, applied)


def _strings(value: Any, change: Any) -> Any:
    """The same JSON value with its strings changed, but not the names of members."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_strings(item, change) for item in value]
    if isinstance(value, Mapping):
        return {name: _strings(item, change) for name, item in value.items()}
    return value
