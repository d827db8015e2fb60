"""Where a model chooses between levels of risk, in its own tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from risk_model.core.errors import LanguageModelError
from risk_model.prompts.answers import RISK_LEVELS
from risk_model.prompts.compact_format import RISK, WHY


class Encodes(Protocol):
    """A model with its tokenizer."""

    def encoded(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Levels:
    """Where a model chooses between levels: all that is written before, the tokens it chooses from, and what is
    written after each, up to the reason."""

    before: tuple[int, ...]
    choice: tuple[int, ...]
    after: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, model: Encodes) -> Levels:
        """Raises LanguageModelError for a tokenizer that writes two levels with the same first token."""
        written = [model.encoded(f"{RISK}{level}\n{WHY.rstrip()}") for level in RISK_LEVELS]
        place = 0
        while len({tokens[place] for tokens in written}) == 1:
            place += 1
        choice = tuple(tokens[place] for tokens in written)
        if len(set(choice)) < len(choice):
            raise LanguageModelError("levels", "two levels begin with the same token of this model")
        return cls(tuple(written[0][:place]), choice, tuple(tuple(tokens[place + 1 :]) for tokens in written))
