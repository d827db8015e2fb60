"""Several prompts answered at once: where many notes wait, a step of the model is shared by all of them.

    answers(LocalLanguageModel(), prompts) -> one JSON text a prompt, in order
    opinions(LocalLanguageModel(), risk_prompts) -> a level with its log-odds, and a reason, for each

The same grammar holds each answer, token by token, as when they are asked one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from risk_model.core.errors import LanguageModelError
from risk_model.core.tasks import Task
from risk_model.llm.backend import MAX_TOKENS, ModelPrompt
from risk_model.llm.levels import Levels
from risk_model.prompts.note_prompt import Message
from risk_model.prompts.opinion import Opinion, weighed
from risk_model.prompts.risk_prompt import MOST_TOKENS, RiskPrompt

BATCH = 16


class GuidedModel(Protocol):
    """What decoding side by side needs of a local model: its weights, its tokens, and the grammar it is held to."""

    @property
    def model(self) -> Any: ...
    @property
    def guide(self) -> Any: ...

    def asked(self, prompt: ModelPrompt) -> ModelPrompt: ...

    def tokens(self, messages: Sequence[Message]) -> list[int]: ...

    def encoded(self, text: str) -> list[int]: ...

    def matcher(self, grammar: str) -> Any: ...

    def offset(self, task: str | Task) -> float: ...

    def in_json(self, prompt: ModelPrompt, said: str) -> str: ...


def answers(
    model: GuidedModel,
    prompts: Sequence[ModelPrompt],
    *,
    max_tokens: int = MAX_TOKENS,
    batch: int = BATCH,
    deadline: float | None = None,
) -> Iterator[str]:
    """The likeliest allowed answer to each prompt; what `max_tokens` cut comes as it is (see `answer.completed`).

    Raises LanguageModelError past `deadline` (of `time.monotonic()`).
    """
    for place in range(0, len(prompts), batch):
        chosen = prompts[place : place + batch]
        asked = [model.asked(prompt) for prompt in chosen]
        sequences = [_Sequence(model, model.tokens(a.messages), a.grammar, max_tokens) for a in asked]
        _decode(model.model, sequences, deadline)
        yield from (model.in_json(prompt, s.text) for prompt, s in zip(chosen, sequences, strict=True))


def opinions(
    model: GuidedModel,
    prompts: Sequence[RiskPrompt],
    *,
    reasons: bool = True,
    batch: int = BATCH,
    deadline: float | None = None,
) -> Iterator[Opinion]:
    """The level that is likeliest where the model chooses one, its log-odds, and the likeliest sentence as its reason.

    Without `reasons` one pass over the prompt is all. Raises LanguageModelError past `deadline`.
    """
    levels, most = Levels.of(model), MOST_TOKENS if reasons else 0
    for place in range(0, len(prompts), batch):
        chosen = prompts[place : place + batch]
        sequences = [
            _Sequence(model, [*model.tokens(p.messages), *levels.before], p.reason_grammar, most, levels)
            for p in chosen
        ]
        _decode(model.model, sequences, deadline)
        for prompt, sequence in zip(chosen, sequences, strict=True):
            level, log_odds = weighed(sequence.weights, model.offset(prompt.task))
            yield prompt.opinion(level, log_odds, sequence.text if reasons else "")


class _Sequence:
    """One answer under way. `step` are the tokens the model has to see next; `weights` the logarithms of the levels'
    weights, once they are known."""

    def __init__(
        self, model: GuidedModel, given: list[int], grammar: str, most: int, levels: Levels | None = None
    ) -> None:
        self._guide, self._matcher = model.guide, model.matcher(grammar)
        self._most, self._levels = most, levels
        self.step, self.seen = given, 0
        self.said: list[int] = []
        self.weights: tuple[float, ...] = ()

    @property
    def done(self) -> bool:
        chosen = self._levels is None or bool(self.weights)
        return chosen and (self._matcher.is_stopped() or len(self.said) >= self._most)

    @property
    def text(self) -> str:
        return str(self._guide.decode_str([token for token in self.said if token != self._guide.eos_token]))

    def take(self, torch: Any, logits: Any) -> None:
        """Go on from what the model makes of `step`: a level, or the likeliest allowed token."""
        self.seen += len(self.step)
        if self._levels is not None and not self.weights:
            self.step = self._choose(self._levels, logits.float())
            return
        mask = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)
        allowed = mask[: logits.shape[-1]].to(logits.device) > 0
        token = int(logits.float().masked_fill(~allowed, float("-inf")).argmax())
        self._matcher.consume_token(token)
        self.step = [token, *self._forced()]
        self.said += self.step

    def _choose(self, levels: Levels, logits: Any) -> list[int]:
        self.weights = tuple(float(logits[token]) for token in levels.choice)
        place = self.weights.index(max(self.weights))
        self.said += self._forced()
        return [levels.choice[place], *levels.after[place], *self.said]

    def _forced(self) -> list[int]:
        """The tokens that the grammar leaves no choice about."""
        forced = [] if self._matcher.is_stopped() else list(self._matcher.compute_ff_tokens())
        if forced:
            self._matcher.consume_tokens(forced)
        return forced


def _decode(model: Any, sequences: Sequence[_Sequence], deadline: float | None) -> None:
    """Steps of all sequences side by side, padded on the left; what is padding is never attended to."""
    import torch

    cache, mask = None, torch.zeros((len(sequences), 0), dtype=torch.long, device=model.device)
    with torch.inference_mode():
        while not all(sequence.done for sequence in sequences):
            if deadline is not None and time.monotonic() > deadline:
                raise LanguageModelError("too-slow", f"{len(sequences)} answers at once")
            width = max(len(sequence.step) for sequence in sequences if not sequence.done)
            rows = [_row(sequence, width) for sequence in sequences]
            ids, positions, own = (torch.tensor(part, device=model.device) for part in zip(*rows, strict=True))
            mask = torch.cat([mask, own], dim=1)
            seen = model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                logits_to_keep=1,
            )  # fmt: skip
            cache = seen.past_key_values
            for sequence, logits in zip(sequences, seen.logits[:, -1], strict=True):
                if not sequence.done:
                    sequence.take(torch, logits)


def _row(sequence: _Sequence, width: int) -> tuple[list[int], list[int], list[int]]:
    """(tokens, their positions, 1 for each that counts); all padding where the answer is done."""
    step = [] if sequence.done else sequence.step
    empty = width - len(step)
    positions = [0] * empty + list(range(sequence.seen, sequence.seen + len(step)))
    return [0] * empty + step, positions, [0] * empty + [1] * len(step)
