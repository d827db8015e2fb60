"""Inputs for tasks without a curated list: all inputs that the rows of a cohort have, selected without the outcomes.

As for the shipped models, measurement counts are left out: how often something is measured depends on the hospital.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import FeatureVector
from fhir_mapping.terminology import definitions, diagnosis_table
from risk_model.features.diseases import disease_names
from risk_model.features.inputs import ADMITTED_FROM, DISCHARGED_TO, record_facts
from risk_model.features.stay_history import HISTORY
from risk_model.features.stay_medications import STAY_MEDICATIONS
from risk_model.features.time_series import RATIOS, series_names

AGGREGATES = ("last", "first", "min", "max", "mean", "slope")
SMALLEST_SHARE, FEWEST_ROWS = 0.01, 5


def candidates(vectors: Iterable[FeatureVector]) -> tuple[str, ...]:
    """Returns every input that these rows could have: concepts with a number in some row, and all non-measurement
    inputs."""
    measured = {name.partition(".")[0] for vector in vectors for name in vector.values} & set(definitions().concepts)
    concepts = [concept for concept in definitions().concepts if concept in measured]
    ratios = {name for name, ratio in RATIOS.items() if {ratio.first, ratio.second} <= measured}
    made = [
        name
        for name in series_names(concepts)
        if name.partition(".")[0] in {*concepts, *ratios, "mechanical_ventilation"}
    ]
    names = (
        *record_facts(),
        "sex.female",
        *(f"{concept}.{aggregate}" for concept in concepts for aggregate in AGGREGATES),
        *made,
        *HISTORY,
        *STAY_MEDICATIONS,
        *(f"group.{name}" for name in diagnosis_table().groups),
        *(f"admitted_from.{place}" for place in ADMITTED_FROM),
        *(f"discharged_to.{place}" for place in DISCHARGED_TO),
        *disease_names(),
    )
    return tuple(dict.fromkeys(names))  # a ratio may be measured as well as made of its parts


def known_often(names: Sequence[str], x: NDArray[np.float32]) -> list[int]:
    """Returns the positions of the inputs known in enough rows of `x` (rows, names)."""
    enough = max(FEWEST_ROWS, SMALLEST_SHARE * len(x))
    known = np.isfinite(x).sum(axis=0)
    return [place for place in range(len(names)) if known[place] >= enough]
