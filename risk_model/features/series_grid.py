"""Measurements of the last two days on a grid of time, the input of sequence models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import PatientRecord
from fhir_mapping.terminology import definitions
from risk_model.features.time_series import read_series

STEPS = 24
HOURS = 2.0
"""The length of a step; 24 of them look back two days from the prediction time."""


def series_grid(records: Iterable[PatientRecord], concepts: Sequence[str] = ()) -> NDArray[np.float32]:
    """Returns the newest value of each concept in each step, oldest step first; NaN where nothing was measured.

    The shape is (records, STEPS, concepts); `concepts` are all of `concepts.yaml` by default. Only the current stay and
    the day before it count.
    """
    names = {name: place for place, name in enumerate(concepts or definitions().concepts)}
    return np.stack([_grid(record, names) for record in records])


def _grid(record: PatientRecord, names: dict[str, int]) -> NDArray[np.float32]:
    found = np.full((STEPS, len(names)), np.nan, dtype=np.float32)
    for concept, series in read_series(record).items():
        if concept not in names:
            continue
        for ago, value in zip(series.ago.tolist(), series.value.tolist(), strict=True):  # the newest comes last
            if ago < STEPS * HOURS:
                found[STEPS - 1 - int(max(ago, 0.0) // HOURS), names[concept]] = value
    return found
