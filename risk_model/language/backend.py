"""The seam between the reader and whatever model answers: local weights, a hospital's server, a test's fake."""

from __future__ import annotations

from typing import Protocol

from risk_model.language.prompt import Prompt

MAX_TOKENS = 600


class LanguageModel(Protocol):
    """Answers prompts; knows nothing of patients. `fingerprint` changes whenever the answers could."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def answer(self, prompt: Prompt, *, max_tokens: int = MAX_TOKENS, deadline: float | None = None) -> str:
        """The answer's JSON; one that was cut by `max_tokens` comes back as it is (see `answer.completed`).

        Past `deadline` (of `time.monotonic()`) it stops. Raises LanguageModelError: `too-slow`, `unreachable`, ...
        """
        ...
