"""Stage 1 reaches stage 2 cross-fitted or not at all."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from risk_model.evaluation.metrics import auroc
from risk_model.first_stage.fusion import Head, VectorBlock, cross_fit
from risk_model.first_stage.training_rows import TrainingRows, patient_folds
from risk_model.training.gradient_boosting import fit, predict
from tests.risk_model.simulated import QUICK, informative_block, memorising_block, simulated


def test_a_head_that_memorises_cannot_fool_stage_2() -> None:
    """In-fold outputs of a head on noise separate the outcomes well; what stage 2 gets separates nothing."""
    cohort = simulated(600, signal=0.0)
    block = memorising_block(cohort, dimensions=150)
    fold = patient_folds(cohort.patients, y=cohort.y)
    everyone = np.ones(len(cohort.y), bool)
    fused = cross_fit([block], cohort.y, everyone, fold)
    in_fold = fused.heads[0](block.vectors)
    assert auroc(cohort.y, in_fold.astype(float)) > 0.7
    assert auroc(cohort.y, fused.columns[:, 0].astype(float)) < 0.56


def test_outcomes_of_held_out_patients_reach_neither_stage() -> None:
    """Nested: turning every outcome of one outer fold around changes nothing that fold's estimates are made of."""
    cohort = simulated(400)
    block = informative_block(cohort)
    fold = patient_folds(cohort.patients)
    inside = fold != 0
    turned = np.where(inside, cohort.y, 1 - cohort.y)
    plain, other = (cross_fit([block], y, inside, fold) for y in (cohort.y, turned))
    np.testing.assert_array_equal(plain.columns, other.columns)


def test_a_row_never_meets_a_head_that_saw_its_patient() -> None:
    """Turning one patient's outcome around leaves that patient's own stage 1 column as it was."""
    cohort = simulated(300, visits=3)
    block = informative_block(cohort)
    fold = patient_folds(cohort.patients)
    everyone = np.ones(len(cohort.y), bool)
    own = np.array([patient == "p5" for patient in cohort.patients])
    turned = np.where(own, 1 - cohort.y, cohort.y)
    plain, other = (cross_fit([block], y, everyone, fold).columns for y in (cohort.y, turned))
    np.testing.assert_array_equal(plain[own], other[own])
    assert not np.array_equal(plain, other)


def test_a_cohort_has_no_place_for_outputs_of_stage_1() -> None:
    assert {field.name for field in fields(TrainingRows)} == {"task", "names", "x", "y", "patients", "blocks"}
    assert {field.name for field in fields(VectorBlock)} == {"source", "vectors"}


def test_an_informative_block_helps_and_serves_as_trained() -> None:
    cohort = simulated(1500)
    fused = fit(replace(cohort, blocks=(informative_block(cohort),)), parameters=QUICK)
    assert auroc(cohort.y, fused.out_of_fold) > auroc(cohort.y, fit(cohort, parameters=QUICK).out_of_fold) + 0.05
    assert fused.row_names[-1] == "record_embedding.logit"
    new = simulated(500, seed=20)
    probability = predict(fused, replace(new, blocks=(informative_block(new, seed=21),)))
    assert auroc(new.y, probability) > 0.8


def test_rows_without_a_vector_are_unknown_not_average() -> None:
    head = Head("notes", np.ones(3), 0.5)
    answers = head(np.array([[1, 2, 3], [np.nan] * 3], np.float32))
    assert answers[0] == pytest.approx(6.5)
    assert np.isnan(answers[1])
    assert Head.from_json(head.to_json()).name == "notes_embedding.logit"
    with pytest.raises(ValueError, match="unknown source"):
        Head.from_json(head.to_json() | {"source": "stars"})
