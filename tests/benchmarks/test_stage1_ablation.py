"""The ablation of stage 1: arms that share folds share fits, and the arm without cross-fitting overfits."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks import readme
from benchmarks.reduced_reasons import ReducedReasons, Reduction
from benchmarks.stage1_ablation import HEADS, CachedReasoner, InFold, gain
from risk_model.evaluation.metrics import auroc
from risk_model.first_stage.fusion import cross_fit
from risk_model.first_stage.note_reasoner import labels_of
from risk_model.first_stage.rationale import Reasons
from risk_model.first_stage.training_rows import patient_folds
from risk_model.training.learners import LEARNERS
from tests.risk_model.first_stage.test_rationale import ByHeart, embed
from tests.risk_model.simulated import simulated


def test_the_arm_without_cross_fitting_trusts_a_memorising_first_stage() -> None:
    cohort = simulated(400)
    fold = patient_folds(cohort.patients, y=cohort.y)
    reasoner = ByHeart()
    for outer in range(2):
        inside = fold != outer
        columns = cross_fit([InFold(reasoner, embed)], cohort.y, inside, fold).columns
        assert auroc(cohort.y[inside], columns[inside, 0].astype(float)) == 1
        assert not columns[~inside, 0].any()
    assert reasoner.learned_rows
    assert not any(rows.all() for rows in reasoner.learned_rows)


def test_the_same_rows_are_fitted_once() -> None:
    cohort = simulated(60)
    inner = ByHeart()
    reasoner = CachedReasoner(inner)
    half = np.arange(60) < 30
    first = reasoner.learn(cohort.y, half)
    assert reasoner.learn(cohort.y, half.copy()) is first
    reasoner.learn(cohort.y, ~half)
    assert len(inner.learned_rows) == 2


def test_inputs_made_of_notes_have_names_a_clinician_reads() -> None:
    found = labels_of(["note.lactate.max", "note.gcs.grade_min", "finding.Delirium"])
    assert found["note.lactate.max"] == "highest lactate"
    assert found["note.gcs.grade_min"].startswith("lowest grade of glasgow")
    assert found["finding.Delirium"] == "delirium"


def test_a_gain_is_paired_by_patient() -> None:
    generator = np.random.default_rng(1)
    y = (generator.random(400) < 0.3).astype(float)
    noise = generator.normal(size=400)
    assert gain(y, noise, noise) == {"value": 0, "interval": [0, 0]}
    low, high = gain(y, noise + 2 * y, noise)["interval"]
    assert 0 < low < high


def test_the_guide_quotes_the_committed_result() -> None:
    result = json.loads((readme.RESULTS / "stage1_ablation.json").read_text("utf-8"))
    arms, guide = result["arms"], (readme.ROOT / "docs" / "tuning.md").read_text("utf-8")
    for name, found in arms.items():
        low, high = found["auroc"]["interval"]
        shown = f"{found['auroc']['value']:.3f} ({low:.3f} to {high:.3f}) | {found['auprc']['value']:.3f}"
        assert shown.replace("0.", ".") in guide, name
    assert result["gain_over_structured"].keys() == arms.keys() - {"structured", "oracle"}
    assert arms["structured"]["auroc"]["value"] < arms["oracle"]["auroc"]["value"]


class Says:
    """The same reasons whatever it learned from: one phrase for each row."""

    def learn(self, y: np.ndarray, rows: np.ndarray) -> object:
        return lambda asked: Reasons(y[asked] * 0.0, tuple((f"p{place % 7}",) for place in np.flatnonzero(asked)))


def phrases_to_vectors(reasons: Sequence[tuple[str, ...]]) -> np.ndarray:
    table = np.random.default_rng(3).normal(size=(7, 12)).astype(np.float32)
    return np.stack([table[int(phrase[1:])] if phrase else np.full(12, np.nan) for (phrase,) in reasons])


def test_reduced_reasons_mean_the_same_in_every_inner_fold_and_see_no_held_out_row() -> None:
    cohort = simulated(200)
    fold = patient_folds(cohort.patients, y=cohort.y)
    block = ReducedReasons(Says(), phrases_to_vectors, components=3)  # type: ignore[arg-type]
    for outer in range(2):
        inside = fold != outer
        found = cross_fit([block], cohort.y, inside, fold)
        assert found.names == ("stage1.logit", *(f"rationale_embedding.{number}" for number in (1, 2, 3)))
        assert block.outer is not None
        assert not block.outer[~inside].any()
        assert block.outer.sum() == inside.sum()
        for phrase in range(7):
            rows = np.arange(len(cohort.y)) % 7 == phrase
            assert np.ptp(found.columns[rows], axis=0) == pytest.approx(0, abs=1e-6)
        assert np.ptp(found.columns[:, 1]) > 0.1


def test_a_reduction_leaves_unknown_what_has_no_vector_and_keeps_distances() -> None:
    vectors = np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32) @ np.eye(3, 10, dtype=np.float32)
    vectors[4] = np.nan
    reduced = Reduction.of(vectors, 3)(vectors)
    assert np.isnan(reduced[4]).all()
    assert np.linalg.norm(reduced[0] - reduced[1]) == pytest.approx(np.linalg.norm(vectors[0] - vectors[1]), abs=1e-4)
    assert not Reduction.of(vectors[:1], 4)(vectors[:1]).any()


def test_every_head_is_a_learner() -> None:
    for name, _ in HEADS.values():
        assert name in LEARNERS
