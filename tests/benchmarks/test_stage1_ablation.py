"""The ablation of stage 1: arms that share folds share fits, and the arm without cross-fitting overfits."""

from __future__ import annotations

import json

import numpy as np

from benchmarks import readme
from benchmarks.stage1_ablation import CachedReasoner, InFold, gain
from risk_model.evaluation.metrics import auroc
from risk_model.first_stage.fusion import cross_fit
from risk_model.first_stage.note_reasoner import labels_of
from risk_model.first_stage.training_rows import patient_folds
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
