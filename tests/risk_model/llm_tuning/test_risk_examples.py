"""Windows with outcomes as tuning examples: the prior corrected, reasons independent of the own outcome, patients apart."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from fhir_mapping import Note
from knowledge_index import KnowledgeIndex
from risk_model.core.errors import TrainingError
from risk_model.llm import adapter
from risk_model.llm.batching import opinions
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm.weights import find_weights
from risk_model.llm_tuning.lora import TuningSettings, tokens, tune
from risk_model.llm_tuning.risk_examples import LabelledNotes, hashed, labelled_notes, learned_from, select_windows
from risk_model.notes.rule_reader import RuleNoteReader
from risk_model.prompts.note_prompt import WINDOW_CHARACTERS, Window, packed, windows
from tests.risk_model.conftest import NEEDS
from tests.risk_model.tiny_models import save_tiny_model

TASK = "in_hospital_mortality"
SHARE = 0.25


def note(text: str, number: int) -> Note:
    return Note(f"n{number}", "Note", None, text, (), f"DocumentReference/n{number}", "read")


@pytest.fixture(scope="module")
def ward() -> list[LabelledNotes]:
    """Creatinine decides who dies; heart rate is noise, and what the first line says tells nobody anything."""
    rules, random = RuleNoteReader(KnowledgeIndex.open_starter(), embed=False), Random(3)
    rows = []
    for number in range(240):
        dies = random.random() < SHARE
        creatinine, rate = random.gauss(4 if dies else 1.2, 0.4), random.randint(60, 110)
        text = f"Seen in bay {number}.\nHeart rate {rate} bpm. Creatinine {max(0.4, creatinine):.1f} mg/dL. Stable."
        rows.append(labelled_notes((f"p{number:03d}", f"chart-{number}"), [note(text, number)], int(dies), rules))
    return rows


def test_as_many_with_the_outcome_as_without_and_the_prior_put_back(ward: list[LabelledNotes]) -> None:
    examples = select_windows(ward, TASK, count=60)
    prior = float(np.mean([row.outcome for row in ward]))
    levels = [example.level for example in examples.split.train]
    assert (levels.count("low"), levels.count("high")) == (30, 30)
    assert examples.outcome_tuning is not None
    assert examples.outcome_tuning["offset"] == pytest.approx(math.log(prior / (1 - prior)))
    examples.split.check()
    outcome = {hashed(row.names[0]): row.outcome for row in ward}
    for example in (*examples.split.train, *examples.split.validation):
        assert (example.level == "high") == bool(outcome[example.source])
    assert select_windows(ward, TASK, count=60) == examples


def test_tuning_patients_are_recognised_only_by_their_ids(ward: list[LabelledNotes]) -> None:
    """Drawn or not: who was drawn depends on outcomes, so leaving out only those would tell them."""
    examples = select_windows(ward[40:], TASK, count=60)
    manifest = {"outcome_tuning": examples.outcome_tuning}
    for name in (0, 1):
        known = learned_from(manifest, [row.names[name] for row in ward])
        np.testing.assert_array_equal(known, np.arange(len(ward)) >= 40)
    assert not learned_from({}, ["p001"]).any()
    assert "p0" not in str(examples.outcome_tuning["patients"] if examples.outcome_tuning else "")


def test_a_reason_is_the_sentence_that_weighs_most_to_others(ward: list[LabelledNotes]) -> None:
    """Of nobody is it chosen by the own outcome: with that one turned round the reason is the same."""
    examples = select_windows(ward, TASK, count=120)
    reasons = [example.reason for example in examples.split.train]
    assert np.mean([reason.startswith("Creatinine") for reason in reasons]) > 0.8
    assert all(
        reason in example.prompt.sentences for reason, example in zip(reasons, examples.split.train, strict=True)
    )


def test_the_own_outcome_has_no_part_in_the_own_reason(
    ward: list[LabelledNotes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from risk_model.llm_tuning import risk_examples

    fold = np.arange(len(ward)) % 5
    monkeypatch.setattr(risk_examples, "patient_folds", lambda persons, y: fold)
    y = np.array([float(row.outcome) for row in ward])
    turned = np.where(fold == 2, 1 - y, y)
    first, other = (risk_examples._reasons(ward, outcomes, fold, TASK) for outcomes in (y, turned))
    assert [first[n] for n in np.flatnonzero(fold == 2)] == [other[n] for n in np.flatnonzero(fold == 2)]


def test_too_few_outcomes_are_rejected(ward: list[LabelledNotes]) -> None:
    with pytest.raises(TrainingError, match="the fewest to learn from"):
        select_windows([row for row in ward if not row.outcome], TASK, count=60)
    silent = replace(ward[0], windows=())
    with pytest.raises(TrainingError):
        select_windows([silent] * 50, TASK, count=60)


def test_short_notes_share_a_window_and_long_ones_do_not() -> None:
    short = [window for n in range(3) for window in windows(note(f"Day {n}. Well.\n", n))]
    (one,) = packed(short)
    assert one.text == "Day 0. Well.\n\nDay 1. Well.\n\nDay 2. Well."
    long = Window("x" * (WINDOW_CHARACTERS - 10), 0, ("plan",), "other", "d")
    assert [len(window.text) for window in packed([long, *short[:1], long])] == [990, 13, 990]
    assert packed([]) == []


def test_an_adapter_tuned_on_outcomes_restores_the_prior_and_lists_its_patients(
    ward: list[LabelledNotes], tmp_path: Path
) -> None:
    for package in ("torch", "transformers", "llguidance", "peft"):
        pytest.importorskip(package, reason=NEEDS)
    folder = save_tiny_model(tmp_path / "tiny")
    examples = select_windows(ward, TASK, count=8)
    model = LocalLanguageModel(folder)
    piece = tokens(model, examples.split.train[0])
    answer = piece.ids[piece.prompt :]
    assert model.guide.decode_str([answer[place] for place in piece.weighty]) == f" {examples.split.train[0].level}"
    assert sum(piece.weights[place] for place in piece.weighty) == pytest.approx(len(answer) / 2)
    assert sum(piece.weights) == pytest.approx(len(answer))

    settings = TuningSettings(rank=4, alpha=8, learning_rate=0.02, max_steps=1, max_tokens=2048)
    base = {"name": "tiny", "fingerprint": adapter.base_fingerprint(*find_weights(folder))}
    out = tmp_path / "out"
    manifest = tune(model, examples.split, out, settings, base=base, outcome_tuning=examples.outcome_tuning)
    assert manifest == adapter.check_adapter(out)
    assert manifest["outcome_tuning"] == examples.outcome_tuning
    assert manifest["data"]["patients"].keys() == {"train", "validation"}
    opened = LocalLanguageModel(folder, adapter=out)
    prompts = [example.prompt for example in examples.split.validation[:2]]
    assert opened.offset("readmission_30d") == 0
    offset = opened.offset(TASK)
    with_prior = [opinion.number for opinion in opinions(opened, prompts, reasons=False)]
    opened._outcome_tuning = {}
    without = [opinion.number for opinion in opinions(opened, prompts, reasons=False)]
    assert with_prior == pytest.approx([number + offset for number in without])
    assert offset < 0
