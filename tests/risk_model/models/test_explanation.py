"""Drivers tell the whole of an estimate; counterfactuals speak of what can be changed, and promise nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fhir_mapping import PatientRecord
from risk_model import IN_HOSPITAL_MORTALITY, ModelArtifactError, RiskModel
from risk_model.features.inputs import MODIFIABLE
from risk_model.models.estimator import shipped_folder
from risk_model.models.explanation import Explained, counterfactuals, drivers
from risk_model.training.gradient_boosting import fit, save
from tests.risk_model.models.test_estimator import icu
from tests.risk_model.simulated import NAMES, QUICK, simulated
from tests.risk_model.training.test_gradient_boosting import POPULATION

TYPICAL = {
    "heart_rate.last": 82.0,
    "heart_rate.mean": 82.0,
    "sodium.last": 139.0,
    "age.last": 60.0,
    "lactate.last": 1.4,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> RiskModel:
    cohort = simulated(2500)
    folder = tmp_path_factory.mktemp("model")
    result = fit(cohort, parameters=QUICK)
    save(folder, result, cohort, model_id="simulated", version="1", population=POPULATION, card={})
    return RiskModel.open(folder)


def explained(record: PatientRecord) -> Explained:
    row = np.array([85, 0, 130, 128, 139, 6, 0], np.float32)
    return Explained(record, record.features(), NAMES, row)


def test_contributions_are_summed_by_concept(model: RiskModel) -> None:
    here = explained(icu())
    _, contributions = model.head(here.row)
    by_concept = here.by_concept(contributions)
    assert set(by_concept) == {"age", "sex", "heart_rate", "sodium", "lactate", "cerebrovascular"}
    assert sum(by_concept.values()) == pytest.approx(float(contributions.sum()))
    assert by_concept["heart_rate"] > 0
    assert by_concept["lactate"] > 0


def test_only_modifiable_concepts_are_imagined_otherwise(model: RiskModel) -> None:
    here = explained(icu())
    probability, contributions = model.head(here.row)
    found = counterfactuals(here, contributions, TYPICAL, probability, model.probabilities)
    assert {item.concept for item in found} >= {"heart_rate", "lactate"}
    assert all(item.concept in MODIFIABLE for item in found)
    assert "age" not in {item.concept for item in found}
    for item in found:
        assert item.probability < probability
        assert "association" in item.in_words()
        assert "not an effect" in item.in_words()


def test_what_is_as_usual_already_is_not_imagined(model: RiskModel) -> None:
    here = explained(icu())
    usual = Explained(here.record, here.vector, NAMES, np.array([85, 0, 82, 82, 139, 1.4, 0], np.float32))
    probability, contributions = model.head(usual.row)
    assert counterfactuals(usual, contributions, TYPICAL, probability, model.probabilities) == ()


def test_drivers_are_signed_and_ranked(model: RiskModel) -> None:
    here = explained(icu())
    _, contributions = model.head(here.row)
    found = drivers(here, contributions)
    sizes = [abs(driver.contribution) for driver in found]
    assert sizes == sorted(sizes, reverse=True)
    assert {driver.modifiable for driver in found} == {True, False}


def test_a_model_with_unknown_inputs_is_rejected(tmp_path: Path) -> None:
    """Such an input would be unknown for every patient for ever, and the estimates silently others."""
    cohort = simulated(600)
    names = ("shoe_size.last", *cohort.names[1:])
    other = type(cohort)(cohort.task, names, cohort.x, cohort.y, cohort.patients)
    save(tmp_path, fit(other, parameters=QUICK), other, model_id="x", version="1", population=POPULATION, card={})
    with pytest.raises(ModelArtifactError, match=r"cannot compute: shoe_size\.last"):
        RiskModel.open(tmp_path)


def test_the_shipped_model_can_be_computed() -> None:
    assert RiskModel.open(shipped_folder(IN_HOSPITAL_MORTALITY)).names
