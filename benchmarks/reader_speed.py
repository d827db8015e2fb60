"""Windows and tokens a second of a language model that reads notes, by the length of the record.

    python -m benchmarks.reader_speed [--model NAME] [--windows 4] [--out benchmarks/results/reader_speed.json]

Two measures, apart, because they grow differently: reading in a prompt (prefill) at several lengths of context, and a
whole answer held to the grammar (decode). The default model is SmolLM2-135M on whatever device there is. With a CUDA
device a model of random weights in the shape of Llama-3-8B is measured too, in bfloat16: its words mean nothing, its
time is that of a real one. Records are notes of our own words repeated to a length. Processor time stands beside the
time that passed, in which other programs count too. No time is asserted anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fhir_mapping import Note
from risk_model.language.local import LocalLanguageModel
from risk_model.language.prompt import Prompt, windows

RESULT = Path(__file__).parent / "results" / "reader_speed.json"
LENGTHS = (256, 1024, 2048)
"""Tokens of context at which prefill is measured."""
RECORDS = (1_000, 4_000, 16_000)
"""Characters of a record; how many windows, and so how long a whole record takes."""
MAX_TOKENS = 120
SHAPE_8B = {
    "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 8192,
}  # fmt: skip
_TEXT = (
    "Assessment: 78 year old with heart failure and pneumonia on day {n}. No chest pain. Creatinine {n}.4 mg/dL, "
    "lactate 2.1 mmol/L, blood pressure 104/60. Plan: furosemide, ceftriaxone, repeat bloods in the morning.\n"
)


def record(characters: int) -> Note:
    """A note of about that length."""
    text, day = "", 0
    while len(text) < characters:
        day += 1
        text += _TEXT.format(n=day)
    return Note("1", "Progress note", None, text[:characters], (), "DocumentReference/1", "read", kind="progress_note")


def measured(model: LocalLanguageModel, windows_each: int) -> dict[str, Any]:
    """Prefill by length, decode, and records a minute by their length."""
    prompts = [Prompt(window) for window in windows(record(20_000))][:windows_each]
    model.answer(prompts[0], max_tokens=8)  # warm
    answers = [_timed(lambda prompt=prompt: model.answer(prompt, max_tokens=MAX_TOKENS)) for prompt in prompts]
    each = statistics.median(taken.passed for taken, _ in answers)
    said = [len(model.tokenizer(text).input_ids) for _, text in answers]
    return {
        "prefill": {str(length): _prefill(model, length) for length in LENGTHS},
        "answers": {
            "windows": len(answers),
            "tokens_each": statistics.median(said),
            "windows_per_second": 1 / each,
            "tokens_per_second": sum(said) / sum(taken.passed for taken, _ in answers),
            "tokens_per_processor_second": sum(said) / sum(taken.processor for taken, _ in answers),
        },
        "seconds_a_record": {
            str(characters): each * sum(1 for _ in windows(record(characters))) for characters in RECORDS
        },
    }


def _prefill(model: LocalLanguageModel, length: int) -> dict[str, float]:
    """Tokens a second of one forward pass over a context of `length` tokens."""
    import torch

    ids = torch.randint(100, 10_000, (1, length), device=model.model.device)

    def once() -> None:
        with torch.inference_mode():
            model.model(input_ids=ids, logits_to_keep=1).logits.float().sum().item()  # waits for the device

    once()
    taken = min((_timed(once)[0] for _ in range(2)), key=lambda time: time.passed)
    return {"tokens_per_second": length / taken.passed, "tokens_per_processor_second": length / taken.processor}


class Taken(NamedTuple):
    """Seconds that passed, and seconds of processors, all threads together."""

    passed: float
    processor: float


def _timed(work: Callable[[], Any]) -> tuple[Taken, Any]:
    passed, processor = time.perf_counter(), time.process_time()
    found = work()
    return Taken(time.perf_counter() - passed, time.process_time() - processor), found


def shaped() -> LocalLanguageModel:
    """SmolLM2's tokenizer over random weights in the shape of an 8B model, on the CUDA device."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LocalLanguageModel()
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model.model = LlamaForCausalLM(LlamaConfig(vocab_size=model.model.config.vocab_size, **SHAPE_8B)).eval()
        torch.set_default_dtype(torch.float32)
    model.name = "random weights, 8B shape, bfloat16"
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    import torch

    model = LocalLanguageModel(arguments.model)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    found: dict[str, Any] = {
        "device": device,
        "cores": os.cpu_count(),
        "models": {model.name: measured(model, arguments.windows)},
    }
    if torch.cuda.is_available():
        large = shaped()
        found["models"][large.name] = measured(large, arguments.windows)
    else:
        found["not_measured"] = "the 8B shape: no CUDA device here"
        print(found["not_measured"])
    arguments.out.write_text(json.dumps(_short(found), indent=2) + "\n", "utf-8")
    print(json.dumps(_short(found), indent=2))


def _short(value: Any) -> Any:
    """Three significant digits: what differs behind them is chance."""
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
