"""A small language model before and after tuning, against the rules, on notes in unseen writing styles.

    python -m benchmarks.reader_tuning --out benchmarks/results/reader_tuning.json [--train 120] [--test 24] [--quick]
    python -m benchmarks.reader_tuning --model FILE.gguf --threads 2 --out benchmarks/results/reader_untuned_qwen.json

Examples are written from drawn records in twelve styles; tuning sees 7, 2 decide when it stops, 3 are evaluated.
Every reader is measured by the same field-level metric on the same windows. A GGUF file is run by llama.cpp and not
tuned. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson

from artifact_store import MANIFEST
from benchmarks import readme
from benchmarks.measuring import write
from benchmarks.outcome import say
from knowledge_index import KnowledgeIndex
from risk_model import NoteFindings, RuleNoteReader
from risk_model.core.errors import AnswerError
from risk_model.llm import (
    LanguageModel,
    LocalLanguageModel,
    ReaderName,
    base_fingerprint,
    check_adapter,
    find_weights,
    language_model,
)
from risk_model.llm.batching import answers
from risk_model.llm_reader.anchoring import Anchored
from risk_model.llm_tuning import TuningSettings, TuningSplit, generated_examples, tune
from risk_model.llm_tuning.examples import ReaderExample, scores, summary
from risk_model.llm_tuning.note_writer import PARTS
from risk_model.prompts import ReaderAnswer, complete_json

MAX_TOKENS = 240
"""Of an answer; a perfect one has 190 at most in 19 of 20 windows. What is cut counts up to its last whole item."""


def evaluated_rules(examples: Sequence[ReaderExample], rules: RuleNoteReader) -> list[Counter[str]]:
    return [scores(example, rules.read([example.note("note")])) for example in examples]


def answered(
    model: LanguageModel, examples: Sequence[ReaderExample], batch: int, work: Path
) -> Iterator[tuple[str, float]]:
    """Each window's answer and the seconds it took, those of an earlier run first; `work` keeps them."""
    prompts = [example.prompt() for example in examples]
    shown = orjson.dumps([[message.content for message in prompt.messages] for prompt in prompts])
    kept = work / f"answers-{sha256(model.fingerprint.encode() + shown).hexdigest()[:16]}.jsonl"
    known = [orjson.loads(line) for line in kept.read_bytes().splitlines()] if kept.exists() else []
    yield from ((text, seconds) for text, seconds in known)
    left = prompts[len(known) :]
    said = (
        answers(model, left, max_tokens=MAX_TOKENS, batch=batch)
        if isinstance(model, LocalLanguageModel)
        else (model.answer(prompt, max_tokens=MAX_TOKENS) for prompt in left)
    )
    begun = perf_counter()
    with kept.open("ab", buffering=0) as stream:
        for text in said:
            seconds, begun = perf_counter() - begun, perf_counter()
            stream.write(orjson.dumps((text, seconds)) + b"\n")
            yield text, seconds


def evaluated_model(
    examples: Sequence[ReaderExample], model: LanguageModel, index: KnowledgeIndex, batch: int, work: Path
) -> tuple[list[Counter[str]], dict[str, Any]]:
    """The counts of each example, and how many answers could not be used or had claims that are not in the note."""
    taken = 0.0
    counted, unusable, dropped = [], 0, 0
    said = answered(model, examples, batch, work)
    for number, (example, (text, seconds)) in enumerate(zip(examples, said, strict=True), start=1):
        taken += seconds
        anchored = Anchored(index, example.note("example"))
        try:
            anchored.add(example.prompt().window, ReaderAnswer.from_text(complete_json(text)), [])
        except AnswerError:
            unusable += 1
        read = NoteFindings(anchored.reading.findings, None, "model", 1, 0, values=anchored.reading.values)
        dropped += anchored.reading.dropped
        counted.append(scores(example, read))
        if number % batch == 0:
            say(f"{taken:.0f} s: {number} of {len(examples)} windows answered")
    return counted, {"unusable_answers": unusable, "claims_not_in_the_note": dropped, "seconds": round(taken)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tuned and evaluated, and where the parts that are done are kept."""

    model: str
    precision: str
    work: Path
    counts: tuple[int, int, int]
    """Examples to learn from, to validate and to evaluate on."""
    settings: TuningSettings
    batch: int
    minutes: float
    threads: int | None = None

    @property
    def by_llama(self) -> bool:
        return ReaderName.of(self.model).by_llama

    @property
    def adapter(self) -> Path:
        return self.work / "adapter"

    def opened(self, adapter: Path | None = None) -> LocalLanguageModel:
        return LocalLanguageModel(self.model, adapter=adapter, precision=self.precision)

    def remembered(self, name: str, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A part of the result, made once."""
        path = self.work / f"{name}.json"
        if not path.exists():
            path.write_bytes(orjson.dumps(made()))
        return dict(orjson.loads(path.read_bytes()))


class _TimeIsUpError(Exception):
    """Training stops here, its state is kept."""


def run(plan: Plan) -> dict[str, Any] | None:
    """Every reader on the test styles; None when time was up before all of it was done."""
    index = KnowledgeIndex.open_starter()
    learn, validate, test = (generated_examples(index, part, n) for part, n in zip(PARTS, plan.counts, strict=True))

    def measured(adapter: Path | None) -> dict[str, Any]:
        counts, facts = evaluated_model(test, plan.opened(adapter), index, plan.batch, plan.work)
        return summary(counts) | facts

    found = {"rules": summary(evaluated_rules(test, RuleNoteReader(index, embed=False)))}
    if plan.by_llama:
        model = language_model(ReaderName.of(plan.model), threads=plan.threads)
        counts, facts = evaluated_model(test, model, index, 1, plan.work)
        found["before"] = summary(counts) | facts
        return _result(plan, Path(plan.model).name, {"judged_on": len(test)}, found)
    if not (plan.adapter / MANIFEST).exists() and not _tuned(plan, TuningSplit(learn, validate)):
        return None
    manifest = check_adapter(plan.adapter, base_fingerprint(*find_weights(plan.model)))
    found["after"] = plan.remembered("after", lambda: measured(plan.adapter))
    found["before"] = plan.remembered("before", lambda: measured(None))
    counts = {"learned_from": len(learn), "validated_on": len(validate), "judged_on": len(test)}
    tuning = {"settings": manifest["settings"], "metrics": manifest["metrics"]}
    return _result(plan, manifest["base"]["name"], counts, found) | {"tuning": tuning}


def _result(plan: Plan, model: str, examples: dict[str, int], found: dict[str, Any]) -> dict[str, Any]:
    for name, rates in found.items():
        say(f"{name}: F1 {rates['all']['f1']:.3f}")
    return {
        "model": model,
        "precision": "as in the file, by llama.cpp" if plan.by_llama else plan.precision,
        "examples": examples,
        "judged": "windows written in styles that neither tuning nor its stopping saw; the rules were not changed",
        "max_tokens": MAX_TOKENS,
        "readers": found,
    }


def _tuned(plan: Plan, split: TuningSplit) -> bool:
    """Goes on with tuning; False when time was up before its end."""
    begun = perf_counter()

    def progress(step: int, steps: int, words: str) -> None:
        say(f"{perf_counter() - begun:.0f} s: step {step} of {steps}: {words}")
        if words.startswith("validation") and perf_counter() - begun > 60 * plan.minutes:
            raise _TimeIsUpError

    weights = base_fingerprint(*find_weights(plan.model))
    base = {"name": Path(plan.model).name, "fingerprint": weights, "precision": plan.precision}
    try:
        tune(plan.opened(), split, plan.adapter, plan.settings, base=base, resume=True, progress=progress)
    except _TimeIsUpError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="smollm2", help="smollm2, a folder with safetensors, or a GGUF file")
    parser.add_argument("--work", type=Path, default=readme.ROOT / "out" / "reader_tuning", help="what is done is kept")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop tuning after so many; call again to go on")
    parser.add_argument("--precision", default="bfloat16", help="float32 takes twice the time on most CPUs")
    parser.add_argument("--train", type=int, default=120)
    parser.add_argument("--test", type=int, default=24)
    parser.add_argument("--validation", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, help="of llama.cpp, for a GGUF file  [default: one for each core]")
    parser.add_argument("--answers", choices=["json", "compact"], default="json", help="form of the tuned answers")
    parser.add_argument("--quick", action="store_true", help="40 examples, 4 steps: that it runs, not what it reaches")
    options = parser.parse_args()
    counts = (40, 4, 8) if options.quick else (options.train, options.validation, options.test)
    settings = TuningSettings(
        rank=options.rank, alpha=2 * options.rank, epochs=options.epochs, learning_rate=options.learning_rate,
        batch=options.batch, max_steps=4 if options.quick else None, validate_every=2 if options.quick else 5,
        patience=4, answers=options.answers,
    )  # fmt: skip
    options.work.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        options.model, options.precision, options.work, counts, settings, 4 * options.batch, options.minutes,
        options.threads,
    )  # fmt: skip
    found = run(plan)
    if found is None:
        sys.exit("time is up; the same command goes on")
    write(options.out, found)


if __name__ == "__main__":
    main()
