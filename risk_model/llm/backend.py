"""The seam between the reader and whatever model answers: local weights, a hospital's server, a test's fake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from risk_model.prompts.note_prompt import Message
from risk_model.prompts.opinion import Opinion
from risk_model.prompts.risk_prompt import RiskPrompt

MAX_TOKENS = 600


class ModelPrompt(Protocol):
    """What any backend needs of a question: `Prompt` for notes, others for articles."""

    @property
    def messages(self) -> Sequence[Message]: ...

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON schema of the answer, an object: for servers."""
        ...

    @property
    def grammar(self) -> str:
        """The same as a grammar of llguidance, as strict as it can be: for local models."""
        ...


class LanguageModel(Protocol):
    """Answers prompts; knows nothing of patients. `fingerprint` changes whenever the answers could."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def answer(self, prompt: ModelPrompt, *, max_tokens: int = MAX_TOKENS, deadline: float | None = None) -> str:
        """The answer's JSON; one that was cut by `max_tokens` comes back as it is (see `answer.completed`).

        Past `deadline` (of `time.monotonic()`) it stops. Raises LanguageModelError: `too-slow`, `unreachable`, ...
        """
        ...


@runtime_checkable
class AnswersMany(Protocol):
    """A model that answers many prompts side by side, faster than one after the other."""

    def answer_many(
        self, prompts: Sequence[ModelPrompt], *, max_tokens: int = MAX_TOKENS, deadline: float | None = None
    ) -> Iterator[str]:
        """As `LanguageModel.answer`, one text a prompt, in order."""
        ...


@runtime_checkable
class Weighs(Protocol):
    """A model that gives the probabilities behind the level it chooses."""

    def opinions(
        self, prompts: Sequence[RiskPrompt], *, reasons: bool = True, deadline: float | None = None
    ) -> Iterator[Opinion]:
        """One opinion a prompt, in order; without `reasons` only the level is asked for. Raises LanguageModelError."""
        ...
