"""Windows and tokens a second of a language model that reads notes, by the length of the record.

    python -m benchmarks.reader_speed [--model NAME] [--windows 4] [--out benchmarks/results/reader_speed.json]
    python -m benchmarks.reader_speed --device cuda --shape 8b
    python -m benchmarks.reader_speed --model FILE.gguf [--threads 2]

Measured apart, because they grow differently: reading in a prompt (prefill) at several lengths of context, whole
answers held to the grammar (decode) one by one and side by side, and from them the time for a record by its length.
`--shape` puts random weights in the shape of a larger model behind SmolLM2's tokenizer: its output is meaningless, its
time is that of a real one. A GGUF file is run by llama.cpp, one answer at a time. Records are notes of our own words
repeated to a length. Processor time is given beside elapsed time, which includes other programs. A result is kept
beside those of other devices and shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fhir_mapping import Note
from risk_model.llm import LlamaLanguageModel, LocalLanguageModel, ReaderName
from risk_model.llm.backend import AnswersMany
from risk_model.llm.llama_server import usable_cores
from risk_model.prompts import Prompt
from risk_model.prompts.note_prompt import windows

RESULT = Path(__file__).parent / "results" / "reader_speed.json"
LENGTHS = (256, 1024, 2048)
"""Tokens of context at which prefill is measured."""
RECORDS = (1_000, 4_000, 16_000)
"""Characters of a record; how many windows, and so how long a whole record takes."""
MAX_TOKENS = 120
SHAPES: dict[str, dict[str, int]] = {
    "8b": {
        "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "max_position_embeddings": 8192,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 8192,
    },
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


LocalModel = LocalLanguageModel | LlamaLanguageModel


def measured(model: LocalModel, windows_each: int) -> dict[str, Any]:
    """Prefill by length, decode alone and side by side, and seconds for records by their length."""
    prompts = [Prompt(window) for window in windows(record(20_000))][:windows_each]
    model.answer(prompts[0], max_tokens=8)  # warm
    alone = [_timed(lambda prompt=prompt: model.answer(prompt, max_tokens=MAX_TOKENS)) for prompt in prompts]
    found = {
        "prefill": {str(length): _prefill(model, length) for length in LENGTHS},
        "answers": _rates(model, [text for _, text in alone], [taken for taken, _ in alone]),
        "records": [_of_record(model, characters, windows_each) for characters in RECORDS],
    }
    if isinstance(model, AnswersMany):
        together, texts = _timed(lambda: _answers(model, prompts))
        found["answers_side_by_side"] = _rates(model, texts, [together])
    return found


def _answers(model: LocalModel, prompts: Sequence[Prompt]) -> list[str]:
    """Side by side where the model can."""
    if isinstance(model, AnswersMany):
        return list(model.answer_many(prompts, max_tokens=MAX_TOKENS))
    return [model.answer(prompt, max_tokens=MAX_TOKENS) for prompt in prompts]


def _rates(model: LocalModel, texts: Sequence[str], times: Sequence[Taken]) -> dict[str, float]:
    passed, processor = sum(taken.passed for taken in times), sum(taken.processor for taken in times)
    said = [len(model.encoded(text)) for text in texts]
    return {
        "windows": len(texts),
        "tokens_each": statistics.median(said),
        "windows_per_second": len(texts) / passed,
        "tokens_per_second": sum(said) / passed,
        "tokens_per_processor_second": sum(said) / processor,
    }


def _of_record(model: LocalModel, characters: int, most: int) -> dict[str, float]:
    """A record read whole, its windows side by side; of a long one only `most` are, and the rest is reckoned."""
    prompts = [Prompt(window) for window in windows(record(characters))]
    taken, _ = _timed(lambda: _answers(model, prompts[:most]))
    seconds = taken.passed * len(prompts) / len(prompts[:most])
    return {"characters": characters, "windows": len(prompts), "seconds": seconds, "records_per_minute": 60 / seconds}


def _prefill(model: LocalModel, length: int) -> dict[str, float]:
    """Tokens a second of one forward pass over a context of `length` tokens."""
    once = _pass_of_llama(model, length) if isinstance(model, LlamaLanguageModel) else _pass_of_torch(model, length)
    once()
    taken = min((_timed(once)[0] for _ in range(2)), key=lambda time: time.passed)
    return {"tokens_per_second": length / taken.passed, "tokens_per_processor_second": length / taken.processor}


def _pass_of_llama(model: LlamaLanguageModel, length: int) -> Callable[[], None]:
    tokens = (model.encoded(record(8 * length).text) * 2)[:length]
    body = {"prompt": tokens, "n_predict": 1, "cache_prompt": False}
    return lambda: model.server.post("/completion", body, None) and None


def _pass_of_torch(model: LocalLanguageModel, length: int) -> Callable[[], None]:
    import torch

    ids = torch.randint(10, min(10_000, model.model.config.vocab_size), (1, length), device=model.model.device)

    def once() -> None:
        with torch.inference_mode():
            model.model(input_ids=ids, logits_to_keep=1).logits.float().sum().item()  # waits for the device

    return once


class Taken(NamedTuple):
    """Seconds that passed, and seconds of processors, all threads together."""

    passed: float
    processor: float


def _timed(work: Callable[[], Any]) -> tuple[Taken, Any]:
    passed, processor = time.perf_counter(), time.process_time()
    found = work()
    return Taken(time.perf_counter() - passed, time.process_time() - processor), found


def opened(name: str, shape: str | None, device: str) -> LocalLanguageModel:
    """The model of a name on a device; with `shape`, random weights behind its tokenizer, bfloat16 on a GPU."""
    import torch

    model = LocalLanguageModel(name)
    if shape is not None:
        from transformers import LlamaConfig, LlamaForCausalLM

        number = torch.bfloat16 if device == "cuda" else torch.float32
        before = torch.get_default_dtype()
        torch.set_default_dtype(number)
        try:
            with torch.device(device):
                config = LlamaConfig(vocab_size=model.model.config.vocab_size, **SHAPES[shape])
                model.model = LlamaForCausalLM(config).eval()
        finally:
            torch.set_default_dtype(before)
        model.name = f"random weights, {shape} shape, {str(number).removeprefix('torch.')}"
    model.model.to(device)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights in the shape of a larger model")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--threads", type=int, help="of llama.cpp, for a GGUF file  [default: one for each core]")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if ReaderName.of(arguments.model).by_llama:
        if arguments.device == "cuda" or arguments.shape:
            parser.error("--device cuda and --shape are for transformers; a GGUF file is run by llama.cpp on CPUs")
        threads = arguments.threads or usable_cores()
        model: LocalModel = LlamaLanguageModel(arguments.model, threads=threads)
        device = f"llama.cpp, CPU, {threads} threads"
    else:
        import torch

        if arguments.device == "cuda" and not torch.cuda.is_available():
            parser.error("there is no CUDA device here")
        model = opened(arguments.model, arguments.shape, arguments.device)
        threads = torch.get_num_threads()
        device = torch.cuda.get_device_name() if arguments.device == "cuda" else f"CPU, {threads} threads"
    found = json.loads(arguments.out.read_text("utf-8")) if arguments.out.exists() else {}
    found[f"{Path(model.name).name}, {device}"] = {"cores": os.cpu_count(), **measured(model, arguments.windows)}
    arguments.out.write_text(json.dumps(_short(found), indent=2) + "\n", "utf-8")
    print(json.dumps(_short(found), indent=2))


def _short(value: Any) -> Any:
    """Three significant digits: what differs behind them is chance."""
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
