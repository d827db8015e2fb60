"""Models that say what a test wants, and count how often they were asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from risk_model.core.errors import LanguageModelError
from risk_model.llm.backend import MAX_TOKENS
from risk_model.prompts.note_prompt import Prompt


@dataclass
class SaysModel:
    """Answers with `say(prompt)`, whatever the schema asks for."""

    say: Callable[[Prompt], str]
    name: str = "says"
    fingerprint: str = "says-1"
    asked: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, prompt: Prompt, *, max_tokens: int = MAX_TOKENS, deadline: float | None = None) -> str:
        with self._lock:
            self.asked += 1
        return self.say(prompt)


def refuses(_: Prompt) -> str:
    raise LanguageModelError("refused")


def breaks(_: Prompt) -> str:
    raise RuntimeError("CUDA out of memory on a note about Mr SECRET")


def rambles(_: Prompt) -> str:
    return "As a language model I cannot answer that."
