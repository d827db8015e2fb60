"""Drivers tell the whole of an estimate; counterfactuals speak of what can be changed, and promise nothing."""

from __future__ import annotations

import json
import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from risk_model import IN_HOSPITAL_MORTALITY, Abnormality, ModelArtifactError, RiskModel
from risk_model.features.inputs import is_modifiable
from risk_model.models.estimator import shipped_folder
from risk_model.models.explanation import Explained, ShownValue, counterfactuals, drivers
from risk_model.training.gradient_boosting import fit, save
from tests.risk_model.models.test_estimator import icu
from tests.risk_model.simulated import NAMES, QUICK, simulated
from tests.risk_model.training.test_gradient_boosting import POPULATION


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> RiskModel:
    cohort = simulated(2500)
    folder = tmp_path_factory.mktemp("model")
    result = fit(cohort, parameters=QUICK)
    save(folder, result, cohort, model_id="simulated", version="1", population=POPULATION, card={})
    return RiskModel.open(folder)


SICK = (85, 0, 130, 128, 139, 6, 1)  # age, female, heart rate (last, mean), sodium, lactate, stroke


def row(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def explained(model: RiskModel, values: NDArray[np.float32]) -> Explained:
    record = icu()
    return Explained(record, record.features(), NAMES, values, model.reference(values))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(
        st.floats(18, 98), st.sampled_from([0.0, 1.0]), st.floats(20, 220), st.floats(20, 220), st.floats(100, 180),
        st.one_of(st.just(math.nan), st.floats(0.2, 25)), st.sampled_from([0.0, 1.0]),
    )
)  # fmt: skip
def test_contributions_are_exact_and_never_against_physiology(model: RiskModel, values: tuple[float, ...]) -> None:
    """The log-odds are the reference's plus the contributions; abnormal raises or does nothing, normal does nothing."""
    asked = row(*values)
    found = model.explain(asked)
    assert logit(found.reference) + sum(found.contributions.values()) == pytest.approx(
        logit(found.probability), abs=1e-4
    )
    normal = {"heart_rate": (50, 100), "sodium": (135, 145), "lactate": (0, 2)}
    for concept, contribution in found.contributions.items():
        here = [v for name, v in zip(NAMES, asked.tolist(), strict=True) if name.split(".")[0] == concept]
        if concept in normal:
            low, high = normal[concept]
            assert contribution > 0, (concept, here)
            assert any(not low <= value <= high for value in here), concept
    assert "sex" not in found.contributions
    assert found.contributions.get("cerebrovascular", 0.0) >= 0


def test_contributions_are_shapley_values(model: RiskModel) -> None:
    """The oracle: every order in which the concepts go from the reference to the patient, averaged."""
    mine, other = row(*SICK), model.reference(row(*SICK))
    concepts = [name.split(".")[0] for name in NAMES]
    names = ("age", "heart_rate", "lactate", "group")
    slope, totals = model.manifest["calibration"]["slope"], dict.fromkeys(names, 0.0)
    orders = list(permutations(names))
    for order in orders:
        now = other.copy()
        for concept in order:
            before = logit(float(model.probabilities(now[None])[0]))
            now = np.where([c == concept for c in concepts], mine, now)
            totals[concept] += (logit(float(model.probabilities(now[None])[0])) - before) / len(orders)
    found = model.explain(mine).contributions
    assert slope > 0
    for concept, label in zip(names, ("age", "heart_rate", "lactate", "cerebrovascular"), strict=True):
        assert found.get(label, 0.0) == pytest.approx(totals[concept], abs=1e-4)


def test_unknown_stays_unknown_in_the_reference(model: RiskModel) -> None:
    assert math.isnan(model.reference(row(85, 0, 130, 128, 139, math.nan, 1))[5])


def test_drivers_are_ranked_and_say_where_the_value_lies(model: RiskModel) -> None:
    found = drivers(explained(model, row(*SICK)), model.explain(row(*SICK)).contributions)
    sizes = [abs(driver.contribution) for driver in found]
    assert sizes == sorted(sizes, reverse=True)
    lactate = next(driver for driver in found if driver.concept == "lactate")
    assert (lactate.abnormal, lactate.number, lactate.unit, lactate.direction) == ("high", 6.0, "mmol/L", "raises")
    assert lactate.modifiable is False
    age = next(driver for driver in found if driver.concept == "age")
    assert age.abnormal is None


def test_the_abnormal_value_of_the_stay_is_shown_where_the_last_is_normal() -> None:
    record, names = icu(), ("age.last", "sex.female", "sodium.last", "sodium.min", "sodium.max")
    values = row(70, 0, 138, 121, 139)
    shown = Explained(record, record.features(), names, values, values).value_of("sodium")
    assert shown == ShownValue("121 mmol/L (lowest; last 138)", Abnormality.LOW, 121.0, "mmol/L")


def test_only_what_is_treated_is_imagined_otherwise(model: RiskModel) -> None:
    record, names = icu(), ("age.last", "sex.female", "sodium.last", "lactate.last")
    values, normal = row(70, 0, 121, 6), row(70, 0, 135, 2)
    here = Explained(record, record.features(), names, values, normal)
    found = counterfactuals(here, {"sodium": 0.5, "lactate": 0.7}, 0.4, lambda rows: np.full(len(rows), 0.3))
    assert [(item.concept, item.instead) for item in found] == [("sodium", "135 mmol/L")]
    assert "not an effect" in found[0].in_words()
    assert counterfactuals(here, {"sodium": 0.5}, 0.3, lambda rows: np.full(len(rows), 0.299)) == ()


@pytest.mark.parametrize(
    ("concept", "abnormal", "expected"),
    [
        ("potassium", Abnormality.HIGH, True), ("potassium", Abnormality.NORMAL, False), ("spo2", Abnormality.LOW, True),
        ("heart_rate", Abnormality.HIGH, False), ("respiratory_rate", Abnormality.HIGH, False), ("gcs", Abnormality.LOW, False),
        ("creatinine", Abnormality.HIGH, False), ("mean_bp", Abnormality.LOW, True), ("age", None, False),
        ("medication", None, True), ("discharged_to", None, True),
    ],
)  # fmt: skip
def test_what_treatment_corrects_is_modifiable(concept: str, abnormal: Abnormality | None, expected: bool) -> None:
    assert is_modifiable(concept, abnormal) is expected


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


def test_a_model_that_is_read_differently_is_rejected(tmp_path: Path) -> None:
    """xgboost 3.0 read a model of 3.2 without an error and turned 22 % into 67 %: made-up patients are asked first."""
    cohort = simulated(600)
    save(tmp_path, fit(cohort, parameters=QUICK), cohort, model_id="x", version="1", population=POPULATION, card={})
    RiskModel.open(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert len(manifest["reference_margins"]) == 3
    manifest["reference_margins"][1] += 0.5
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(ModelArtifactError, match="reference predictions come out differently"):
        RiskModel.open(tmp_path)
