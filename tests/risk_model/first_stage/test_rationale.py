"""Reasons reach stage 2 cross-fitted or not at all: what a first stage learned by heart is worth nothing there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from risk_model.evaluation.metrics import auroc
from risk_model.first_stage.fusion import cross_fit
from risk_model.first_stage.note_reasoner import NoteReasoner
from risk_model.first_stage.rationale import Fitted, Frozen, PhraseVectors, ReasonBlock, Reasons, combined_reasons
from risk_model.first_stage.training_rows import patient_folds
from risk_model.prompts.opinion import Opinion
from risk_model.training.gradient_boosting import held_out_margins
from tests.risk_model.simulated import QUICK, simulated

Rows = NDArray[np.bool_]
Floats = NDArray[np.float64]
CERTAIN = 6.0


@dataclass
class ByHeart:
    """Knows the outcome of every row it learned from, and of no other; says so, and gives it as its reason."""

    learned_rows: list[Rows] = field(default_factory=list)

    def learn(self, y: Floats, rows: Rows) -> Fitted:
        self.learned_rows.append(rows.copy())

        def said(asked: Rows) -> Reasons:
            places = np.flatnonzero(asked)
            logit = np.where(rows[places], np.where(y[places] > 0, CERTAIN, -CERTAIN), 0.0)
            words = [("died",) if value > 0 else ("lived",) if value < 0 else ("unknown",) for value in logit]
            return Reasons(logit, tuple(words))

        return said


def embed(reasons: object) -> NDArray[np.float32]:
    place = {"died": 0, "lived": 1, "unknown": 2}
    vectors = np.zeros((len(reasons), 3), np.float32)  # type: ignore[arg-type]
    for row, phrases in enumerate(reasons):  # type: ignore[arg-type,var-annotated]
        vectors[row, place[phrases[0]]] = 1
    return vectors


def test_a_first_stage_that_knows_its_labels_by_heart_would_look_perfect() -> None:
    """What the next test guards against: asked about the rows it learned from, the cheat is always right."""
    cohort = simulated(300)
    everyone = np.ones(300, bool)
    said = ByHeart().learn(cohort.y, everyone)(everyone)
    assert auroc(cohort.y, said.logit) == 1
    assert {words for words, died in zip(said.phrases, cohort.y, strict=True) if died} == {("died",)}


def test_what_was_learned_by_heart_never_reaches_stage_2() -> None:
    cohort = simulated(600, visits=2)
    fold = patient_folds(cohort.patients, y=cohort.y)
    for outer in range(5):
        inside = fold != outer
        fused = cross_fit([ReasonBlock(ByHeart(), embed)], cohort.y, inside, fold)
        assert fused.names == ("stage1.logit", "rationale_embedding.logit")
        assert not fused.columns[:, 0].any()  # it was never asked about a row it knew
        assert np.ptp(fused.columns[:, 1]) < 0.5  # and no reason was ever "died" or "lived"


def test_a_cheating_first_stage_gains_and_spoils_nothing() -> None:
    """With outcomes that structured inputs explain in part, estimates are as good with the cheat as without it."""
    cohort = simulated(900)
    fold = patient_folds(cohort.patients, y=cohort.y)
    alone = auroc(cohort.y, held_out_margins(cohort, fold, QUICK))
    with_it = auroc(cohort.y, held_out_margins(cohort, fold, QUICK, also=[ReasonBlock(ByHeart(), embed)]))
    noise = simulated(900, signal=0.0)
    nothing = auroc(noise.y, held_out_margins(noise, fold, QUICK, also=[ReasonBlock(ByHeart(), embed)]))
    assert alone > 0.65
    assert with_it == pytest.approx(alone, abs=0.02)
    assert 0.43 < nothing < 0.57


def test_no_stage_scores_a_row_it_was_fitted_on() -> None:
    """Every first stage that is fitted for an outer fold was taught without that fold; turning the held-out outcomes
    around changes no column."""
    cohort = simulated(400, visits=2)
    fold = patient_folds(cohort.patients)
    inside = fold != 0
    reasoner = ByHeart()
    plain = cross_fit([ReasonBlock(reasoner, embed)], cohort.y, inside, fold).columns
    assert reasoner.learned_rows
    assert not any((rows & ~inside).any() for rows in reasoner.learned_rows)
    turned = np.where(inside, cohort.y, 1 - cohort.y)
    np.testing.assert_array_equal(plain, cross_fit([ReasonBlock(ByHeart(), embed)], turned, inside, fold).columns)


def test_a_rows_own_outcome_changes_nothing_of_its_columns() -> None:
    """The head that reads reasons is fitted without the row's fold too, and so are the reasons it learned from."""
    cohort = simulated(400, visits=2)
    fold = patient_folds(cohort.patients)
    everyone = np.ones(len(cohort.y), bool)
    block = ReasonBlock(notes_of(cohort.x, cohort.names), PhraseVectors(lambda texts: spelled(texts), 26))
    own = np.array([patient == "p7" for patient in cohort.patients])
    turned = np.where(own, 1 - cohort.y, cohort.y)
    plain, other = (cross_fit([block], y, everyone, fold).columns for y in (cohort.y, turned))
    np.testing.assert_array_equal(plain[own], other[own])
    assert not np.array_equal(plain, other)


def notes_of(x: NDArray[np.float32], names: tuple[str, ...]) -> NoteReasoner:
    return NoteReasoner(names, x, {name: name.partition(".")[0] for name in names})


def spelled(texts: object) -> NDArray[np.float32]:
    return np.array([[text.count(chr(97 + n)) for n in range(26)] for text in texts], np.float32)  # type: ignore[attr-defined]


def test_reasons_are_what_moved_the_estimate_most() -> None:
    cohort = simulated(2000)
    everyone = np.ones(len(cohort.y), bool)
    reasons = notes_of(cohort.x, cohort.names).learn(cohort.y, everyone)(everyone)
    assert auroc(cohort.y, reasons.logit) > 0.65
    worst = int(np.nanargmax(cohort.x[:, cohort.names.index("lactate.last")]))
    assert "very high lactate, a higher risk" in reasons.phrases[worst]
    unknown = np.flatnonzero(np.isnan(cohort.x[:, cohort.names.index("lactate.last")]))[0]
    assert "lactate" not in reasons.in_words(int(unknown))  # what a note does not say is no reason


def test_an_informative_rationale_helps() -> None:
    """Stage 2 without lactate, notes that have it: estimate and rationale both win it back."""
    cohort = simulated(1500)
    fold = patient_folds(cohort.patients, y=cohort.y)
    hidden = cohort.select([name for name in cohort.names if not name.startswith(("lactate", "heart"))])
    reasoner = notes_of(cohort.x, cohort.names)
    embedding = PhraseVectors(spelled, 26)
    alone = auroc(cohort.y, held_out_margins(hidden, fold, QUICK))
    for block in (ReasonBlock(reasoner, embedding, rationale=False), ReasonBlock(reasoner, embedding, estimate=False)):
        assert auroc(cohort.y, held_out_margins(hidden, fold, QUICK, also=[block])) > alone + 0.02


def test_a_frozen_reasoner_says_the_same_whoever_is_held_out() -> None:
    cohort = simulated(200)
    fold = patient_folds(cohort.patients)
    said = Reasons(np.arange(200.0), tuple((f"reason {n % 3}",) for n in range(200)))
    fused = cross_fit(
        [ReasonBlock(Frozen(said), PhraseVectors(spelled, 26), rationale=False)], cohort.y, fold != 1, fold
    )
    np.testing.assert_array_equal(fused.columns[:, 0], np.arange(200, dtype=np.float32))


def test_no_outcome_to_learn_from_is_unknown_and_not_a_guess() -> None:
    cohort = simulated(50)
    no_rows = np.zeros(50, bool)
    reasons = notes_of(cohort.x, cohort.names).learn(cohort.y, no_rows)(~no_rows)
    assert np.isnan(reasons.logit).all()
    assert reasons.in_words(0) == "no finding of weight in the notes"


def test_a_phrase_is_embedded_once() -> None:
    asked: list[str] = []

    def encode(texts: object) -> NDArray[np.float32]:
        asked.extend(texts)  # type: ignore[arg-type]
        return spelled(texts)

    vectors = PhraseVectors(encode, 26)
    found = vectors([("ab", "cd"), ("ab",), ()])
    vectors([("cd", "ab")])
    assert sorted(asked) == ["ab", "cd"]
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(np.linalg.norm(found[:2], axis=1), 1, rtol=1e-6)


def test_what_a_language_model_says_goes_the_same_way() -> None:
    """The gravest of a patient's windows counts; a patient nobody was asked about is unknown, not low."""
    calm, grave = Opinion("low", -1.5, "Walks about."), Opinion("moderate", 0.25, "Lactate 9.")
    said = combined_reasons([[calm, grave], [calm], [Opinion("high")], []])
    np.testing.assert_array_equal(said.logit, [0.25, -1.5, 2, np.nan])
    assert said.phrases == (("Lactate 9.", "Walks about."), ("Walks about.",), (), ())
    assert Frozen(said).learn(np.zeros(4), np.zeros(4, bool))(np.array([False, True, False, False])).logit == [-1.5]
