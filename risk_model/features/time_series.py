"""Inputs from a stay's measurements as time series: spread, recent and earlier levels, ratios.

Pure functions of a PatientRecord, the same in training and in service. All windows look back from `prediction_time`, at
most to 24 hours before the stay. Inputs that cannot be computed are absent; there are no defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import PatientRecord

BEFORE_STAY = timedelta(hours=24)
RECENT = (6, 12)
"""Hours: means of the last 6 and of the last 12."""
EARLIER = 24
"""Hours: the mean of everything older than a day."""
URINE_WINDOWS = (6, 12, 24, 48)
_LONGEST_PAIR = 12.0  # hours between the two values of a ratio at most
VENTILATION = frozenset({"40617009", "243147009", "243141005"})
Array = NDArray[np.float64]
Inputs = dict[str, float]


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """One concept in time order: `ago` in hours before the prediction time (descending), `value` in canonical units."""

    ago: Array
    value: Array

    def within(self, hours: float) -> Array:
        """Returns the values of the last `hours`."""
        return self.value[self.ago < hours]

    def at(self, ago: Array) -> Array:
        """Returns the newest value at or before each time, NaN if there is none or it is more than 12 hours older."""
        index = np.searchsorted(-self.ago, -ago, side="right") - 1
        found = np.maximum(index, 0)
        fresh = (index >= 0) & (self.ago[found] - ago <= _LONGEST_PAIR)
        return np.where(fresh, self.value[found], np.nan)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A quantity of two concepts, computed at each measurement of the first."""

    first: str
    second: str
    of: Callable[[Array, Array], Array]


RATIOS: Mapping[str, Ratio] = {
    "shock_index": Ratio("heart_rate", "systolic_bp", lambda a, b: a / b),
    "pulse_pressure": Ratio("systolic_bp", "diastolic_bp", lambda a, b: a - b),
    "pao2_fio2": Ratio("pao2", "fio2", lambda a, b: 100 * a / b),
    "bun_creatinine": Ratio("bun", "creatinine", lambda a, b: a / np.maximum(b, 0.1)),
}
LEVELS = ("std", *(f"mean_{hours}h" for hours in RECENT), f"mean_before_{EARLIER}h")
RATIO_LEVELS = ("last", "min", "max", "mean")
EXTRA = (
    *(f"urine_output.rate_{hours}h" for hours in URINE_WINDOWS),
    *(f"urine_output.rate_per_kg_{hours}h" for hours in URINE_WINDOWS),
    "gcs.change", "gcs.best_24h", "gcs.worst_12h", "gcs.below_9",
    "mechanical_ventilation.hours", "mechanical_ventilation.hours_since",
)  # fmt: skip


def series_names(concepts: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of all inputs of this module for `concepts`."""
    levels = [f"{concept}.{level}" for concept in concepts for level in LEVELS]
    return (*levels, *(f"{name}.{level}" for name in RATIOS for level in RATIO_LEVELS), *EXTRA)


def series_inputs(record: PatientRecord) -> Inputs:
    """Returns every input that can be computed: name -> number."""
    series = read_series(record)
    found: Inputs = {}
    for concept, one in series.items():
        found.update(_levels(concept, one))
    for name, ratio in RATIOS.items():
        found.update(_ratio_levels(name, series[name].value) if name in series else _ratio(name, ratio, series))
    found.update(_urine(record, series))
    if "gcs" in series:
        found.update(_coma(series["gcs"]))
    found.update(_ventilation(record))
    return found


def read_series(record: PatientRecord) -> Mapping[str, TimeSeries]:
    """Returns the series of every concept measured in the stay or the day before it; empty without a stay."""
    stay, at = record.current_stay, record.prediction_time
    if stay is None:
        return {}
    begin = stay.start - BEFORE_STAY
    points: dict[str, list[tuple[float, float]]] = {}
    for item in record.measurements:  # sorted by concept and time
        if item.time >= begin:
            points.setdefault(item.concept, []).append(((at - item.time).total_seconds() / 3600, item.value))
    arrays = {concept: np.array(values, dtype=float) for concept, values in points.items()}
    return {concept: TimeSeries(array[:, 0], array[:, 1]) for concept, array in arrays.items()}


def _levels(concept: str, series: TimeSeries) -> Iterator[tuple[str, float]]:
    if len(series.value) > 1:
        yield f"{concept}.std", float(series.value.std())
    for hours in RECENT:
        recent = series.within(hours)
        if len(recent):
            yield f"{concept}.mean_{hours}h", float(recent.mean())
    earlier = series.value[series.ago >= EARLIER]
    if len(earlier):
        yield f"{concept}.mean_before_{EARLIER}h", float(earlier.mean())


def _ratio(name: str, ratio: Ratio, series: Mapping[str, TimeSeries]) -> Iterator[tuple[str, float]]:
    first, second = series.get(ratio.first), series.get(ratio.second)
    if first is None or second is None:
        return
    other = second.at(first.ago)
    usable = np.isfinite(other) & (other > 0)
    if not usable.any():
        return
    yield from _ratio_levels(name, ratio.of(first.value[usable], other[usable]))


def _ratio_levels(name: str, values: Array) -> Iterator[tuple[str, float]]:
    levels = (values[-1], values.min(), values.max(), values.mean())
    yield from ((f"{name}.{level}", float(value)) for level, value in zip(RATIO_LEVELS, levels, strict=True))


def _urine(record: PatientRecord, series: Mapping[str, TimeSeries]) -> Iterator[tuple[str, float]]:
    """mL per hour, and per kg of the first weight, over the part of each window that is in the stay."""
    urine, weight = series.get("urine_output"), series.get("weight")
    if urine is None or record.current_stay is None:
        return
    running = (record.prediction_time - record.current_stay.start).total_seconds() / 3600
    for hours in URINE_WINDOWS:
        amounts = urine.within(hours)
        if running < 1 or not len(amounts):
            continue
        rate = float(amounts.sum()) / min(hours, running)
        yield f"urine_output.rate_{hours}h", rate
        if weight is not None:
            yield f"urine_output.rate_per_kg_{hours}h", rate / float(weight.value[0])


def _coma(gcs: TimeSeries) -> Iterator[tuple[str, float]]:
    """Best score of the last day minus the worst before it, and the share of scores that mean coma (below 9)."""
    today, before = gcs.within(24), gcs.value[gcs.ago >= 24]
    if len(today):
        yield "gcs.best_24h", float(today.max())
    if len(today) and len(before):
        yield "gcs.change", float(today.max() - before.min())
    recent = gcs.within(12)
    if len(recent):
        yield "gcs.worst_12h", float(recent.min())
    yield "gcs.below_9", float((gcs.value < 9).mean())


def _ventilation(record: PatientRecord) -> Iterator[tuple[str, float]]:
    """Only for repeated ventilation entries: a single one does not say how long it lasted."""
    stay = record.current_stay
    if stay is None:
        return
    times = [
        p.performed
        for p in record.procedures
        if p.performed and p.performed >= stay.start and any(c.code in VENTILATION for c in p.codings)
    ]
    if len(times) > 1:
        first, last = min(times), max(times)
        yield "mechanical_ventilation.hours", (last - first).total_seconds() / 3600
        yield "mechanical_ventilation.hours_since", (record.prediction_time - last).total_seconds() / 3600
