"""Tunes a local language model to read notes: LoRA on examples labelled by records.

    tune(LocalLanguageModel(), TuningSplit(train, validation), out, TuningSettings(epochs=2), base=...)

The loss covers only the answer (the prompt is masked), the adapter with the lowest validation loss is kept, and
interrupted training resumes and ends with the same weights. Nothing is pickled: checkpoints are safetensors and JSON,
written atomically.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifact_store import MANIFEST
from risk_model.core.errors import TrainingError
from risk_model.llm import adapter
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm_tuning.checkpoints import Tensors, TrainingState, keep, newest, remove
from risk_model.llm_tuning.examples import PromptAnswer, TuningExample
from risk_model.prompts.compact_format import JSON
from risk_model.prompts.note_prompt import Message

IGNORED = -100
"""Label of a token nothing is learned from."""
STYLES, PATIENTS = "styles", "patients"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """Settings of tuning. A step is one batch; `targets` are names of linear layers, or `all-linear`."""

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ("all-linear",)
    learning_rate: float = 1e-3
    batch: int = 8
    epochs: int = 2
    max_steps: int | None = None
    validate_every: int = 25
    patience: int = 3
    """Validations without a lower loss after which it stops."""
    max_tokens: int = 768
    seed: int = 7
    answers: str = JSON
    """The form of the answers: `json`, or `compact` lines."""


@dataclass(frozen=True, slots=True)
class TuningSplit:
    """Examples for training and, from other sources (STYLES or PATIENTS), examples for early stopping."""

    train: Sequence[TuningExample]
    validation: Sequence[TuningExample]
    sources: str = STYLES

    def check(self) -> None:
        """Raises TrainingError if a side is empty, or a source is on both sides."""
        if not self.train or not self.validation:
            raise TrainingError("no training examples" if self.validation else "no examples to validate on")
        both = {e.source for e in self.train} & {e.source for e in self.validation}
        if both:
            named = ", ".join(sorted(both))
            raise TrainingError(f"{self.sources} of the validation must not be in the training examples: {named}")


@dataclass(frozen=True, slots=True)
class _Tokens:
    """One example as tokens; the first `prompt` of them are given, the rest is the answer. Those of `weighty`, places
    in the answer, count as much as all others together."""

    ids: tuple[int, ...]
    prompt: int
    weighty: range = range(0)

    @property
    def weights(self) -> list[float]:
        """Of the answer's tokens; their mean is 1."""
        every, some = len(self.ids) - self.prompt, len(self.weighty)
        if not 0 < some < every:
            return [1.0] * every
        return [every / 2 / (some if place in self.weighty else every - some) for place in range(every)]


def tune(
    model: LocalLanguageModel,
    split: TuningSplit,
    out: Path,
    settings: TuningSettings,
    *,
    base: Mapping[str, str],
    outcome_tuning: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress = lambda _step, _steps, _words: None,
    enough: Callable[[], bool] = lambda: False,
) -> Mapping[str, Any]:
    """Tunes the model and writes the adapter folder; returns its manifest.

    `base` is the model: name, fingerprint, precision. `outcome_tuning` describes tuning on outcomes (see
    `risk_examples`).

    With `resume` it goes on from the state in `out`, if there is one of the same model, data and settings. Where
    `enough` says so after a validation it ends with the best adapter so far.

    Raises TrainingError for unusable examples, for a state of something else, and where `out` holds an adapter or an
    unfinished one and `resume` was not asked for; MissingExtraError without peft.
    """
    split.check()
    identity = {
        "base": dict(base),
        "data": {"train": adapter.data_hash(split.train), "validation": adapter.data_hash(split.validation)},
        "settings": asdict(settings) | {"targets": list(settings.targets)},
        **({} if outcome_tuning is None else {"outcome_tuning": dict(outcome_tuning)}),
    }
    if (out / MANIFEST).exists():
        raise TrainingError(f"{out} holds an adapter already; choose another folder")
    state = newest(out)
    if state is not None and not resume:
        raise TrainingError(f"{out} holds unfinished training; --resume goes on with it, or choose another folder")
    if state is not None and state.identity != identity:
        raise TrainingError(f"{out} holds training of another model, other examples or settings; choose another folder")
    run = _Run(model, split, out, settings, identity)
    return run.to_the_end(state, progress, enough)


class _Run:
    def __init__(
        self,
        model: LocalLanguageModel,
        split: TuningSplit,
        out: Path,
        settings: TuningSettings,
        identity: Mapping[str, Any],
    ) -> None:
        import torch

        self.torch, self.out, self.settings, self.identity, self.split = torch, out, settings, identity, split
        self.train = _usable([tokens(model, example, settings.answers) for example in split.train], settings.max_tokens)
        self.validation = _usable(
            [tokens(model, example, settings.answers) for example in split.validation], settings.max_tokens
        )
        self.padding = model.tokenizer.pad_token_id if model.tokenizer.pad_token_id is not None else 0
        torch.manual_seed(settings.seed)
        self.model = _with_lora(model.model, settings)
        self.learned = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.learned.values(), lr=settings.learning_rate, weight_decay=0.0)
        per_epoch = math.ceil(len(self.train) / settings.batch)
        self.steps = min(settings.epochs * per_epoch, settings.max_steps or settings.epochs * per_epoch)
        self.per_epoch = per_epoch

    def to_the_end(
        self, state: TrainingState | None, progress: Progress, enough: Callable[[], bool]
    ) -> Mapping[str, Any]:
        """From the first step, or from the one after `state`."""
        if state is None:
            first = self.validation_loss()
            state = TrainingState(self.identity, 0, ((0, first),), self.weights(), self.weights(), {})
        else:
            self._restore(state)
        while state.step < self.steps and not self._is_enough(state) and not enough():
            done = self._until_validation(state, progress)
            loss = self.validation_loss()
            best = self.weights() if loss < state.lowest else state.best
            state = TrainingState(
                self.identity, done, (*state.losses, (done, loss)), self.weights(), best, self._moments()
            )
            keep(self.out, state)
            progress(done, self.steps, f"validation loss {loss:.4f}, lowest {state.lowest:.4f}")
        return self._finished(state)

    def _is_enough(self, state: TrainingState) -> bool:
        losses = [loss for _, loss in state.losses]
        return len(losses) - 1 - losses.index(min(losses)) >= self.settings.patience

    def _until_validation(self, state: TrainingState, progress: Progress) -> int:
        """Trains to the next validation; the step reached."""
        self.model.train()
        end = min(self.steps, state.step + self.settings.validate_every)
        for step in range(state.step, end):
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * self._warmth(step)
            loss, answers = self._loss(self._batch(step))
            (loss / answers).backward()
            self.torch.nn.utils.clip_grad_norm_(self.learned.values(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            progress(step + 1, self.steps, f"loss {float(loss.detach()) / answers:.4f}")
        return end

    def _warmth(self, step: int) -> float:
        """Share of the learning rate: up over the first twentieth, then down to a tenth."""
        warm = max(1, self.steps // 20)
        return min(1.0, (step + 1) / warm) * (1 - 0.9 * step / max(1, self.steps))

    def _batch(self, step: int) -> list[_Tokens]:
        """The batch of a step: a function of seed and step alone, so that nothing has to be remembered of the order."""
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(len(self.train))
        chosen = order[place * self.settings.batch : (place + 1) * self.settings.batch]
        return [self.train[number] for number in chosen]

    def _loss(self, batch: Sequence[_Tokens]) -> tuple[Any, int]:
        """(sum of the loss over the answers' tokens, each by its weight, and how many they are)."""
        ids, mask, labels, weights = self._padded(batch)
        kept = labels.shape[1] + 1
        logits = self.model(input_ids=ids, attention_mask=mask, logits_to_keep=kept, use_cache=False).logits
        said = logits[:, -kept:-1].float().reshape(-1, logits.shape[-1])
        each = self.torch.nn.functional.cross_entropy(said, labels.reshape(-1), ignore_index=IGNORED, reduction="none")
        return (each * weights.reshape(-1)).sum(), int((labels != IGNORED).sum())

    def _padded(self, batch: Sequence[_Tokens]) -> tuple[Any, Any, Any, Any]:
        """Tokens, attention, and the labels and weights of the last tokens. Padded on the left: all answers end at the
        same place, and only the longest one's tokens have to be turned into words."""
        longest = max(len(item.ids) for item in batch)
        answer = max(len(item.ids) - item.prompt for item in batch)
        ids, mask, labels, weights = [], [], [], []
        for item in batch:
            empty = longest - len(item.ids)
            ids.append([self.padding] * empty + list(item.ids))
            mask.append([0] * empty + [1] * len(item.ids))
            before = answer - len(item.ids) + item.prompt
            labels.append([IGNORED] * before + list(item.ids[item.prompt :]))
            weights.append([0.0] * before + item.weights)
        device = next(iter(self.learned.values())).device
        made = [self.torch.tensor(rows, device=device) for rows in (ids, mask, labels, weights)]
        return made[0], made[1], made[2], made[3]

    def validation_loss(self) -> float:
        """Mean loss per token of the answers written in validation styles."""
        self.model.eval()
        total, answers = 0.0, 0
        with self.torch.inference_mode():
            for batch in _batches(self.validation, self.settings.batch):
                loss, count = self._loss(batch)
                total, answers = total + float(loss), answers + count
        return total / answers

    def weights(self) -> Tensors:
        return {name: p.detach().clone().contiguous() for name, p in self.learned.items()}

    def _moments(self) -> Tensors:
        """The optimizer's state by parameter: `exp_avg.<name>`, `exp_avg_sq.<name>`, `step.<name>`."""
        known = self.optimizer.state
        return {
            f"{kind}.{name}": value.detach().clone().reshape(value.shape or (1,))
            for name, p in self.learned.items()
            for kind, value in known[p].items()
        }

    def _restore(self, state: TrainingState) -> None:
        with self.torch.no_grad():
            for name, p in self.learned.items():
                p.copy_(state.weights[name])
        moments: dict[str, dict[str, Any]] = {}
        for key, value in state.moments.items():
            kind, _, name = key.partition(".")
            moments.setdefault(name, {})[kind] = value.reshape(()) if kind == "step" else value
        for name, p in self.learned.items():
            if name in moments:
                self.optimizer.state[p] = moments[name]

    def _finished(self, state: TrainingState) -> Mapping[str, Any]:
        """The best adapter as peft writes it, with its manifest; the state between is not needed any more."""
        with self.torch.no_grad():
            for name, p in self.learned.items():
                p.copy_(state.best[name])
        config = self.model.peft_config["default"]
        config.base_model_name_or_path = self.identity["base"]["name"]
        config.inference_mode = True
        with adapter.opened_peft():
            # Embeddings are never tuned here; left to itself peft would ask the network whether they were.
            self.model.save_pretrained(self.out, safe_serialization=True, save_embedding_layers=False)
        (self.out / "README.md").unlink(missing_ok=True)
        adapter.in_order(self.out)
        losses = [{"step": step, "loss": loss} for step, loss in state.losses]
        facts = {
            **self.identity,
            "data": self.identity["data"] | self._data(),
            "metrics": {"validation": losses, "lowest": state.lowest, "steps": state.step, "planned": self.steps},
        }
        manifest = adapter.write_manifest(self.out, facts)
        remove(self.out)
        self.model.eval()
        return manifest

    def _data(self) -> dict[str, Any]:
        """Returns the number of examples, and their styles or the number of patients."""
        parts = {"train": self.train, "validation": self.validation}
        sources = {part: sorted({e.source for e in getattr(self.split, part)}) for part in parts}
        described = sources if self.split.sources == STYLES else {part: len(listed) for part, listed in sources.items()}
        return {"examples": {part: len(listed) for part, listed in parts.items()}, self.split.sources: described}


def tokens(model: LocalLanguageModel, example: TuningExample, answers: str = JSON) -> _Tokens:
    """Prompt and answer in the model's own chat format."""
    pair = example.prompt_answer(answers)
    given = model.tokens(pair.messages)
    whole = model.tokens([*pair.messages, Message("assistant", pair.answer)], answering=False)
    if whole[: len(given)] != given:
        raise TrainingError("this model's chat format writes a prompt differently once it is answered")
    return _Tokens(tuple(whole), len(given), _weighty(model, pair))


def _weighty(model: LocalLanguageModel, pair: PromptAnswer) -> range:
    """Returns the positions of the weighty part among the tokens of the answer."""
    if not pair.weighty:
        return range(0)
    before, _, after = pair.answer.partition(pair.weighty)
    until = len(model.encoded(pair.answer)) - len(model.encoded(after))
    return range(len(model.encoded(before.rstrip())), until)


def _usable(listed: Sequence[_Tokens], most: int) -> list[_Tokens]:
    """Those short enough. Raises TrainingError where none is."""
    short = [item for item in listed if len(item.ids) <= most]
    if not short:
        raise TrainingError(f"every example is longer than {most} tokens")
    return short


def _batches(listed: Sequence[_Tokens], size: int) -> Iterator[Sequence[_Tokens]]:
    """Of like length, so that little is padded."""
    ordered = sorted(listed, key=lambda item: len(item.ids))
    yield from (ordered[place : place + size] for place in range(0, len(ordered), size))


def _with_lora(model: Any, settings: TuningSettings) -> Any:
    targets = settings.targets[0] if settings.targets == ("all-linear",) else list(settings.targets)
    chosen = {"r": settings.rank, "lora_alpha": settings.alpha, "target_modules": targets}
    try:
        with adapter.opened_peft() as peft:
            return peft.get_peft_model(model, peft.LoraConfig(lora_dropout=0.0, task_type="CAUSAL_LM", **chosen))
    except ValueError as error:
        raise TrainingError(f"these layers cannot be tuned: {str(error).splitlines()[0][:200]}") from None
