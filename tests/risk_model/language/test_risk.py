"""A language model as first stage: held to a reason and a level, kept as it goes, and as good alone as together."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from risk_model.errors import AnswerError, LanguageModelError
from risk_model.language.answer import RISK_LEVELS
from risk_model.language.local import LocalLanguageModel
from risk_model.language.prompt import Window
from risk_model.language.rationale import spoken
from risk_model.language.risk import RiskPrompt, estimates
from tests.risk_model.language.conftest import NEEDS
from tests.risk_model.language.fakes import SaysModel
from tests.risk_model.language.tiny import save_tiny_model

TASK = "in_hospital_mortality"
_TEXT = "Day {n}. Lactate {n}.4 mmol/L, on the ward. "
WINDOWS = [Window(_TEXT.format(n=n) * (n + 1), 0, (), "progress_note", "d") for n in range(5)]


def test_a_local_model_gives_a_reason_and_a_level(tmp_path: Path) -> None:
    for package in ("torch", "transformers", "llguidance"):
        pytest.importorskip(package, reason=NEEDS)
    model = LocalLanguageModel(save_tiny_model(tmp_path / "tiny"))
    found = estimates(model, WINDOWS, TASK, tmp_path / "kept.jsonl")
    complete = [answer for answer in found if answer.risk is not None]
    assert all(answer.risk in RISK_LEVELS for answer in complete)
    prompts = [RiskPrompt(window, TASK) for window in WINDOWS]
    assert found == [prompt.read(model.answer(prompt, max_tokens=60)) for prompt in prompts]


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    """Killed in the middle, with a last line that was cut; another model is asked anew."""
    kept = tmp_path / "kept.jsonl"
    model = SaysModel(lambda _: "why: Lactate is high.\nrisk: high\n")
    first = estimates(model, WINDOWS[:3], TASK, kept)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.write_bytes(kept.read_bytes() + b'["half a li')
    assert estimates(model, WINDOWS[:3], TASK, kept) == first
    assert model.asked == 3
    estimates(model, WINDOWS, TASK, kept)
    assert model.asked == 5
    estimates(model, WINDOWS, TASK, kept)
    assert model.asked == 5
    estimates(SaysModel(lambda _: "why: So.\nrisk: low\n", fingerprint="other"), WINDOWS[:1], TASK, kept)


def test_a_servers_json_and_a_local_models_lines_say_the_same() -> None:
    prompt = RiskPrompt(WINDOWS[0], TASK)
    lines = prompt.read("why: Lactate is high.\nrisk: high\n")
    assert lines == prompt.read('{"rationale": "Lactate is high.", "risk": "high"}')
    assert spoken([[lines]]).phrases == (("Lactate is high.",),)
    assert prompt.read("why: cut in the mid").risk is None
    with pytest.raises(AnswerError):
        prompt.read('{"rationale": 3, "risk": "certain"}')


def test_a_model_that_fails_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    kept, said = tmp_path / "kept.jsonl", iter(range(100))

    def say(_: object) -> str:
        if next(said) >= 16:
            raise LanguageModelError("unreachable")
        return "why: Lactate.\nrisk: low\n"

    many = [Window(f"Bed {n}.", 0, (), "progress_note", "d") for n in range(20)]
    with pytest.raises(LanguageModelError):
        estimates(SaysModel(say), many, TASK, kept)  # type: ignore[arg-type]
    again = SaysModel(lambda _: "why: Lactate.\nrisk: low\n")
    assert len(estimates(again, many, TASK, kept)) == 20
    assert again.asked == 4
