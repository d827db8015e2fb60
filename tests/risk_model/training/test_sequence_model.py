"""The recurrent network learns what only the course over time says, and never sees the rows it answers."""

from __future__ import annotations

import numpy as np
import pytest

from risk_model.evaluation.metrics import auroc
from risk_model.first_stage.training_rows import patient_folds
from risk_model.training import sequence_model
from tests.risk_model.training.test_ablation import study

ROWS, STEPS = 240, 6


def rising() -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:  # type: ignore[type-arg]
    """Series that rise where there is an outcome and fall where there is none, from any level; a third is unknown."""
    generator = np.random.default_rng(0)
    y = (generator.random(ROWS) < 0.4).astype(float)
    slope = np.where(y == 1, 1.0, -1.0)[:, None, None]
    series = generator.normal(0, 3, (ROWS, 1, 2)) + slope * np.arange(STEPS)[None, :, None]
    series[generator.random(series.shape) < 0.3] = np.nan
    return series.astype(np.float32), y, tuple(f"p{n}" for n in range(ROWS))


def test_it_learns_a_course_out_of_fold_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the extra [llm] is not installed")
    monkeypatch.setattr(sequence_model, "_EPOCHS", 15)
    series, y, people = rising()
    x, fold = np.zeros((ROWS, 1), np.float32), patient_folds(people, 2, y)
    found = sequence_model.held_out(series, x, y, people, fold)
    assert auroc(y, found) > 0.85
    np.testing.assert_array_equal(found, sequence_model.held_out(series, x, y, people, fold))
    turned = np.where(fold == 0, 1 - y, y)
    again = sequence_model.held_out(series, x, turned, people, fold)
    np.testing.assert_array_equal(again[fold == 0], found[fold == 0])


def test_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing was measured" in str(sequence_model.why_not(study().series)) or "torch" in str(
        sequence_model.why_not(None)
    )
    monkeypatch.setattr(sequence_model, "find_spec", lambda _name: None)
    assert sequence_model.why_not(np.zeros((1, 1, 1), np.float32)) == (
        "torch is not installed: pip install 'riskcards[llm]'"
    )
