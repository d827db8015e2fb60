"""The tuning benchmark runs from end to end on a tiny random model, stops at its limit, and goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.reader_tuning import Plan, run
from risk_model.llm_tuning.lora import TuningSettings
from tests.risk_model.conftest import NEEDS
from tests.risk_model.tiny_gguf import save_tiny_gguf
from tests.risk_model.tiny_models import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("torch", "transformers", "llguidance", "peft"):
        pytest.importorskip(package, reason=NEEDS)
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_readers_are_measured_before_and_after_on_the_same_windows(model: Path, tmp_path: Path) -> None:
    settings = TuningSettings(rank=2, batch=2, epochs=1, validate_every=1, max_tokens=2048)
    plan = Plan(str(model), "float32", tmp_path, (8, 4, 4), settings, 4, minutes=0.0)
    assert run(plan) is None  # time was up at once: the first state is kept
    assert list((tmp_path / "adapter").glob("state-*"))
    found = run(replace(plan, minutes=60.0))
    assert found is not None
    assert found["examples"] == {"learned_from": 8, "validated_on": 4, "judged_on": 4}
    assert found["readers"].keys() == {"rules", "before", "after"}
    windows = {name: rates["all"]["expected"] for name, rates in found["readers"].items()}
    assert len(set(windows.values())) == 1
    assert (
        found["readers"]["rules"]["all"]["f1"] > found["readers"]["after"]["all"]["f1"]
    )  # random weights know nothing
    assert run(replace(plan, minutes=0.0)) == found


def test_a_gguf_file_is_measured_untuned_and_no_window_is_asked_about_again(tmp_path: Path) -> None:
    for package in ("xllamacpp", "gguf"):
        pytest.importorskip(package, reason=NEEDS)
    gguf = save_tiny_gguf(tmp_path / "tiny.gguf")
    plan = Plan(str(gguf), "auto", tmp_path, (8, 4, 2), TuningSettings(), 4, minutes=0.0, threads=1)
    found = run(plan)
    assert found is not None
    assert found["readers"].keys() == {"rules", "before"}
    (kept,) = tmp_path.glob("answers-*.jsonl")
    first, _second = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(first)
    again = run(plan)
    assert again is not None
    assert again["readers"]["before"]["all"] == found["readers"]["before"]["all"]
    assert kept.read_bytes().splitlines()[0] + b"\n" == first
    assert len(kept.read_bytes().splitlines()) == 2
