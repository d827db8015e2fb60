"""Columns of a model's inputs, and the reference patient: normal values for age and sex, unknown stays unknown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from risk_model import IN_HOSPITAL_MORTALITY, READMISSION_30D, Abnormality
from risk_model.features.encoding import ColumnForm, Encoding, Rest, encoding_for, scale_of
from risk_model.features.inputs import input_names
from risk_model.features.normal_ranges import RangeTable, as_measured, normal_range, normal_ranges

NAMES = (
    "age.last", "sex.female", "sodium.last", "lactate.max", "gcs.min", "creatinine.last", "sodium.slope", "weight.last",
    "group.heart_failure", "discharged_to.home", "discharged_to.nursing", "mechanical_ventilation.last",
    "mechanical_ventilation.hours", "urine_output.mean",
)  # fmt: skip
NAN = math.nan
NORMAL = (60, 1, 140, 1.0, 15, 0.8, 0.3, 70, 0, 1, 0, 0, NAN, 80)


def rows(*values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)


def changed(**values: float) -> tuple[float, ...]:
    return tuple(values.get(name.replace(".", "_"), at) for name, at in zip(NAMES, NORMAL, strict=True))


ENCODING = encoding_for(IN_HOSPITAL_MORTALITY, NAMES)


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("sodium.last:below", {"sodium_last": 120}, 15),
        ("sodium.last:below", {"sodium_last": 160}, 0),
        ("sodium.last:above", {"sodium_last": 160}, 15),
        ("sodium.last:within", {"sodium_last": 160}, 145),
        ("sodium.last:within", {"sodium_last": 138}, 138),
        ("sodium.last:below", {"sodium_last": NAN}, NAN),
        ("lactate.max", {"lactate_max": 9}, 9),
        ("gcs.min", {"gcs_min": 6}, 6),
        ("creatinine.last:above", {"creatinine_last": 1.2}, 0.1),
        ("creatinine.last:above", {"creatinine_last": 1.2, "sex_female": 0}, 0),
        ("creatinine.last:above", {"creatinine_last": 1.2, "sex_female": NAN}, 0),
        ("creatinine.last:above", {"creatinine_last": 1.1}, 0),
        ("mechanical_ventilation.hours", {}, 0),
        ("mechanical_ventilation.hours", {"mechanical_ventilation_last": 1}, NAN),
    ],
)
def test_columns(column: str, values: dict[str, float], expected: float) -> None:
    made = ENCODING.columns_of(rows(changed(**values)))
    np.testing.assert_allclose(made[0, ENCODING.column_names.index(column)], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("sodium.last", 120, 135), ("sodium.last", 160, 145), ("sodium.last", 138, 138), ("sodium.last", NAN, NAN),
        ("lactate.max", 9, 2), ("gcs.min", 3, 15), ("age.last", 90, 66), ("sex.female", 1, 1),
        ("sodium.slope", 0.3, 0.3), ("weight.last", 120, 120), ("group.heart_failure", 1, 0),
        ("discharged_to.home", 0, 1), ("discharged_to.nursing", 1, 0), ("discharged_to.nursing", NAN, NAN),
        ("mechanical_ventilation.last", 1, 0),
    ],
)  # fmt: skip
def test_the_reference(name: str, value: float, expected: float) -> None:
    asked = rows(changed(**{name.replace(".", "_"): value}))
    found = ENCODING.reference(asked, {"age.last": 66.0})
    np.testing.assert_allclose(found[0, NAMES.index(name)], expected)


def test_a_patient_with_normal_values_is_the_own_reference_but_for_age() -> None:
    asked = rows(changed(age_last=66))
    np.testing.assert_array_equal(ENCODING.reference(asked, {"age.last": 66.0}), asked)


@pytest.mark.parametrize("task", [IN_HOSPITAL_MORTALITY, READMISSION_30D])
def test_from_the_reference_to_any_patient_no_constrained_column_falls(task: str) -> None:
    """What makes contradictions impossible: a constrained column of a level only moves in its own direction."""
    encoding = encoding_for(task, input_names(task))
    generator = np.random.default_rng(1)
    x = np.abs(generator.normal(60, 80, (400, len(encoding.names)))).astype(np.float32)
    flags = [place for place, name in enumerate(encoding.names) if encoding.rests[place] in {Rest.NONE, Rest.USUAL}]
    x[:, flags] = generator.integers(0, 2, (400, len(flags)))
    x[generator.random(x.shape) < 0.3] = np.nan
    here = encoding.columns_of(x)
    there = encoding.columns_of(encoding.reference(x, {}))
    for place, column in enumerate(encoding.columns):
        moves = (here[:, place] - there[:, place])[np.isfinite(here[:, place]) & np.isfinite(there[:, place])]
        if column.direction and encoding.rests[column.place] is not Rest.MEDIAN:
            assert (column.direction * moves >= -1e-5).all(), column.name
        if column.form is ColumnForm.WITHIN:
            assert (np.abs(moves) < 1e-4).all(), column.name


def test_the_manifest_keeps_the_ranges_it_was_trained_with() -> None:
    again = Encoding.from_json(NAMES, ENCODING.to_json())
    assert again.column_names == ENCODING.column_names
    assert again.constraints == ENCODING.constraints
    asked = rows(changed(sodium_last=120, creatinine_last=2))
    np.testing.assert_array_equal(again.columns_of(asked), ENCODING.columns_of(asked))


@pytest.mark.parametrize("raw", [{"harm": "up"}, {"low": 3, "high": 2, "harm": "low"}])
def test_a_range_that_cannot_be_is_rejected(raw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"harm|above"):
        RangeTable.parse(raw)


@pytest.mark.parametrize(
    ("concept", "sex", "age", "value", "expected"),
    [
        ("respiratory_rate", "male", 60, 25, Abnormality.HIGH),
        ("gcs", "female", 60, 12, Abnormality.LOW),
        ("gcs", "female", 60, 15, Abnormality.NORMAL),
        ("hematocrit", "female", 40, 37, Abnormality.NORMAL),
        ("hematocrit", "male", 40, 37, Abnormality.LOW),
        ("hematocrit", None, 40, 37, Abnormality.NORMAL),
        ("bun", "male", 80, 24, Abnormality.NORMAL),
        ("bun", "male", 40, 24, Abnormality.HIGH),
        ("bun", "male", None, 24, Abnormality.NORMAL),
        ("albumin", "male", 40, 2.3, Abnormality.LOW),
    ],
)
def test_normal_for_age_and_sex(
    concept: str, sex: str | None, age: float | None, value: float, expected: Abnormality
) -> None:
    found = normal_range(concept, sex, age)
    assert found is not None
    assert found.of(value) is expected


def test_what_has_no_normal_range() -> None:
    assert normal_range("weight", "male", 40) is None
    assert scale_of("weight.last") not in normal_ranges()


def test_a_float32_at_a_bound_is_normal() -> None:
    assert float(np.float32(1.1)) > 1.1
    assert as_measured(np.array([np.float32(1.1)]))[0] == 1.1
