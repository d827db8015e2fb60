"""Several prompts answered at once: where many notes wait, a step of the model is shared by all of them.

    answers(LocalLanguageModel(), prompts) -> one JSON text a prompt, in order

The same grammar holds each answer, token by token, as when they are asked one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from risk_model.errors import LanguageModelError
from risk_model.language.backend import MAX_TOKENS, Asked
from risk_model.language.local import LocalLanguageModel

BATCH = 16


def answers(
    model: LocalLanguageModel,
    prompts: Sequence[Asked],
    *,
    max_tokens: int = MAX_TOKENS,
    batch: int = BATCH,
    deadline: float | None = None,
) -> Iterator[str]:
    """The likeliest allowed answer to each prompt; what `max_tokens` cut comes as it is (see `answer.completed`).

    Raises LanguageModelError past `deadline` (of `time.monotonic()`).
    """
    import llguidance
    import llguidance.hf

    size = int(model.model.get_input_embeddings().weight.shape[0])
    guide = llguidance.hf.from_tokenizer(model.tokenizer, n_vocab=size)
    for place in range(0, len(prompts), batch):
        chosen = prompts[place : place + batch]
        asked = [model.asked(prompt) for prompt in chosen]
        sequences = [_Sequence(llguidance.LLMatcher, guide, model.tokens(a.messages), a, max_tokens) for a in asked]
        _decode(model.model, sequences, deadline)
        texts = (str(guide.decode_str([t for t in s.said if t != guide.eos_token])) for s in sequences)
        yield from (model.in_json(prompt, text) for prompt, text in zip(chosen, texts, strict=True))


class _Sequence:
    """One answer under way. `step` are the tokens the model has to see next."""

    def __init__(self, matcher: Any, guide: Any, given: list[int], prompt: Asked, most: int) -> None:
        self._matcher = matcher(guide, matcher.grammar_from_lark(prompt.grammar), log_level=0)
        self._most = most
        self.step, self.seen = given, 0
        self.said: list[int] = []

    @property
    def done(self) -> bool:
        return self._matcher.is_stopped() or len(self.said) >= self._most

    def take(self, torch: Any, logits: Any) -> None:
        """The likeliest allowed token, and those the grammar leaves no choice about."""
        mask = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)
        allowed = mask[: logits.shape[-1]].to(logits.device) > 0
        token = int(logits.float().masked_fill(~allowed, float("-inf")).argmax())
        self._matcher.consume_token(token)
        forced = [] if self._matcher.is_stopped() else list(self._matcher.compute_ff_tokens())
        if forced:
            self._matcher.consume_tokens(forced)
        self.seen += len(self.step)
        self.step = [token, *forced]
        self.said += self.step


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
