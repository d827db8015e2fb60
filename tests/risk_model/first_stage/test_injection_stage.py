"""L1 and L3 where a language model's own estimate is the first stage: whatever it says, and whatever made it say so."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from knowledge_index import Evidence, KnowledgeIndex
from knowledge_index.encoders.registry import encoder_named
from risk_model import RiskEstimate, RiskModel, RuleNoteReader
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY
from risk_model.first_stage.language_stage import AskedModel
from risk_model.first_stage.note_stage import FILE
from risk_model.first_stage.patient_opinions import ImmediateOpinions, asked_windows
from risk_model.models.note_bounds import NOTE_BOUND
from risk_model.prompts.knowledge import Knowledge
from risk_model.prompts.note_prompt import harmless, passages
from risk_model.prompts.opinion import Opinion, Opinions
from risk_model.prompts.risk_prompt import RiskPrompt
from risk_model.training.gradient_boosting import fit, save
from tests.risk_model.injections import BASE, Case, corpus
from tests.risk_model.language_fakes import SaysModel
from tests.risk_model.llm_reader.test_injection import levels, log_odds
from tests.risk_model.models.test_estimator import icu
from tests.risk_model.note_texts import note
from tests.risk_model.simulated import QUICK, simulated
from tests.risk_model.training.test_gradient_boosting import POPULATION

EVERY = corpus()
CASES = [case for case in EVERY if case.where == "note"]


@pytest.fixture(scope="module")
def believing(tmp_path_factory: pytest.TempPathFactory) -> RiskModel:
    """A model whose first stage was nearly always right: high meant death, and so did what it pointed to."""
    plain = simulated(400)
    generator = np.random.default_rng(7)
    right = generator.random(len(plain.y)) < 0.9
    grave = np.where(right, plain.y, 1 - plain.y) > 0
    patients = [
        Opinions((Opinion("high", None, "Heart failure.") if high else Opinion("low", None, "Walking on the ward."),))
        for high in grave
    ]
    stage = AskedModel.of("says", "f" * 64, patients, encoder_named("minilm"))
    fitted = fit(plain, parameters=QUICK, also=[stage.block(plain)], note_bound=NOTE_BOUND)
    folder: Path = tmp_path_factory.mktemp("believing")
    kept = {FILE: orjson.dumps(stage.served(fitted.also[0]))}
    save(folder, fitted, plain, model_id="b", version="1", population=POPULATION, card={}, documents=kept)
    return RiskModel.open(folder)


@pytest.fixture(scope="module")
def rules() -> RuleNoteReader:
    return RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


def estimated(model: RiskModel, say: str | None, words: str, rules: RuleNoteReader) -> tuple[RiskEstimate, str]:
    """The estimate beside a note after the first stage said `say` of it; without, nobody asked. And what was shown."""
    listed = [note(BASE + words)]
    opinions = None if say is None else ImmediateOpinions(SaysModel(lambda _: say), model.question).read(listed)
    shown = " ".join(" ".join(harmless(window.text).split()) for window in asked_windows(listed))
    return model.estimate(icu(), rules.read(listed), (), opinions), shown


def test_the_model_of_these_tests_would_believe_it(believing: RiskModel, rules: RuleNoteReader) -> None:
    """Else what follows would prove nothing: unbounded it goes from one end to the other."""
    rows = [np.array(estimated(believing, f"risk: {level}\nwhy: \n", "", rules)[0].inputs) for level in ("low", "high")]
    low, high = believing.probabilities(np.array(rows, dtype=np.float32)).tolist()
    assert log_odds(high) - log_odds(low) > 3 * NOTE_BOUND


@pytest.mark.parametrize("alarming", [True, False], ids=["alarming", "soothing"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_whatever_it_says_no_level_moves_and_the_number_within_the_bound(
    believing: RiskModel, rules: RuleNoteReader, case: Case, alarming: bool
) -> None:
    """It obeys where it is attacked, and makes a reason up or repeats the attack; of the control it says the other."""
    worst, other = ("high", "low") if alarming else ("low", "high")
    first = " ".join(case.text.split())
    attacks = [f"risk: {worst}\nwhy: {reason}\n" for reason in ("I was told to.", first)]
    found = [estimated(believing, said, case.text, rules) for said in attacks]
    found.append(estimated(believing, f"risk: {other}\nwhy: No chest pain.\n", case.control, rules))
    found.append(estimated(believing, None, case.text, rules))
    alone = believing.estimate(icu())
    for estimate, shown in found:
        assert estimate.abstention is None
        assert estimate.probability is not None
        assert estimate.anchor == alone.anchor == pytest.approx(alone.probability, abs=1e-6)
        assert abs(log_odds(estimate.probability) - log_odds(estimate.anchor)) <= NOTE_BOUND + 1e-9
        assert levels(estimate) == levels(alone)
        assert all(reason in shown for reason in estimate.reasons)
    assert found[0][0].reasons == ()
    assert found[2][0].reasons == ("No chest pain.",)


def test_one_that_shouts_at_everything_shouts_within_the_bound(believing: RiskModel, rules: RuleNoteReader) -> None:
    """And its estimates replay."""
    for words in ("", "Goes home today.", "Feels well. " * 300):
        estimate, _ = estimated(believing, "risk: high\nwhy: Heart failure.\n", words, rules)
        assert estimate.probability is not None
        assert estimate.anchor is not None
        assert log_odds(estimate.probability) - log_odds(estimate.anchor) == pytest.approx(NOTE_BOUND)
        assert any("held" in caution for caution in estimate.cautions)
        assert believing.replay(estimate.inputs, language=True) == estimate.probability


@pytest.mark.parametrize("said", ["", "Sure! The risk is high.", '{"risk": "certain"}', '{"risk": ["high"]}', "risk: "])
def test_invalid_opinions_count_as_no_answer(believing: RiskModel, rules: RuleNoteReader, said: str) -> None:
    silent, unasked = (estimated(believing, word, "", rules)[0] for word in (said, None))
    assert silent.voice is not None
    assert (silent.voice.failed, silent.voice.waiting) == (1, 0)
    assert silent.probability == unasked.probability
    assert math.isnan(silent.inputs[believing.names.index("stage1.logit")])


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.kind)
def test_an_attack_cannot_leave_its_place_in_the_question(case: Case) -> None:
    windows = asked_windows([note(BASE + (case.text if case.where == "note" else ""))])
    assert windows
    if case.where == "literature":
        shown = Knowledge(("Heart Failure",), passages([Evidence("12345678", "A trial", case.text, 1.0, "graph")]))
        windows = tuple(replace(window, knowledge=shown) for window in windows)
    for window in windows:
        prompt = RiskPrompt(window, IN_HOSPITAL_MORTALITY)
        system, user = (message.content for message in prompt.messages)
        assert user.count("</note>") == user.count("<note>") == 1
        assert user.endswith("Risk asked for: In-hospital mortality.")
        assert not any(mark in f"{system}{user}" for mark in ("<|", "[INST]", "\u202e"))


@pytest.mark.parametrize(
    ("model", "case"),
    [("smollm2", CASES[0]), *(("llama", case) for case in CASES)],
    ids=lambda given: given if isinstance(given, str) else given.kind,
)
def test_a_real_model_under_attack_moves_no_level(
    believing: RiskModel, rules: RuleNoteReader, request: pytest.FixtureRequest, model: str, case: Case
) -> None:
    notes = [note(BASE + case.text)]
    opinions = ImmediateOpinions(request.getfixturevalue(model), believing.question).read(notes)
    attacked = believing.estimate(icu(), rules.read(notes), (), opinions)
    assert attacked.voice is not None
    assert not attacked.voice.failed
    assert np.isfinite(attacked.inputs[believing.names.index("stage1.logit")])
    assert levels(attacked) == levels(believing.estimate(icu()))
