"""From a model's inputs to the columns of its booster, and to the reference patient that explains an estimate.

A measured value enters as its departure from the normal range for age and sex. Where medicine is sure that a departure
harms, its column may raise the risk and never lower it; a departure of which it is not sure the other way is cut off at
the normal bound. Within the normal range of a quantity that can err both ways, the value is a column of its own.

    harm high (lactate)    max(value, low)            rises
    harm low  (platelets)  min(value, high)           falls
    harm both (sodium)     low - value, if below      rises
                           value - high, if above     rises
                           value, held to the range   free

The *reference* of a patient is the same patient with every abnormal value moved to the nearest normal one, without
recorded diseases and earlier care, at the cohort's median where nothing is normal (age, length of stay). Sex, hours
since admission, weight, trend and spread of each measurement, and what is unknown stay as they are: they move the
reference, and no contribution. So a normal value is its own reference and changes nothing, and a harmful departure can
only raise the risk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhir_mapping.terminology import definitions
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY
from risk_model.features.inputs import concept_of
from risk_model.features.normal_ranges import RangeTable, as_measured, normal_ranges
from risk_model.features.time_series import RATIOS

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]
_LEVELS = frozenset(
    {"last", "first", "min", "max", "mean", "mean_6h", "mean_12h", "mean_before_24h", "best_24h", "worst_12h"}
)
_RATE, _RATE_PER_KG = "rate_", "rate_per_kg_"
# Inputs that rise with the risk whatever the task, from a reference of 0.
_RISING_PREFIXES = ("group.", "comorbidity_", "disease.", "reason.")
_RISING = frozenset(
    {
        "acute_admission.last", "intensive_care.last", "mechanical_ventilation.last", "mechanical_ventilation.hours",
        "gcs.below_9", "inpatient_stay.count_365d", "emergency_visit.count_365d", "outpatient_visit.count_365d",
        "earlier_stay.count", "earlier_stay.within_30d", "earlier_stay.before_last_365d", "earlier_stay.close_together",
        "earlier_stay.same_reason",
    }
)  # fmt: skip
# Inputs that rise with the risk from the median of the training patients: nobody has none of them.
_RISING_FROM_MEDIAN = frozenset(
    {
        "length_of_stay.last", "condition.count", "condition.count_up_to_9", "medication.count", "procedure.count",
        "procedure.count_up_to_6", "earlier_stay.length",
    }
)  # fmt: skip
# Inputs of which only the task says that they raise the risk: young diabetics return to hospital more often.
_RISING_BY_TASK = {IN_HOSPITAL_MORTALITY: frozenset({"age.last"})}
_OWN = frozenset({"sex.female", "hours_since_admission.last", "gcs.change", "mechanical_ventilation.hours_since"})
_FLAGS = ("finding.", "admitted_from.", "discharged_to.", "medication_", "stay_medication_")
_USUAL = frozenset({"admitted_from.referral", "discharged_to.home", "earlier_stay.to_home"})


class ColumnForm(StrEnum):
    """How a column is made of its input."""

    PLAIN = "plain"
    FLOORED = "floored"
    """The value, at least the lower normal bound."""
    CAPPED = "capped"
    """The value, at most the upper normal bound."""
    BELOW = "below"
    ABOVE = "above"
    WITHIN = "within"


class Rest(StrEnum):
    """Where the reference patient has an input."""

    NORMAL = "normal"
    """At the nearest normal value."""
    OWN = "own"
    MEDIAN = "median"
    NONE = "none"
    """At 0."""
    USUAL = "usual"
    """At 1: discharged home, admitted by referral."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the booster: its input's position, its form, and 1, -1 or 0 for how it moves with the risk."""

    name: str
    place: int
    form: ColumnForm
    direction: int
    scale: str | None = None
    """The concept of its normal range."""


@dataclass(frozen=True)  # without slots, for its cached properties
class Encoding:
    """The columns of a model's inputs and the reference of its patients.

    encoding = Encoding.of(names, normal_ranges(), rising=frozenset({"age.last"}))
    encoding.columns_of(x)      # (rows, columns)
    encoding.reference(x, medians)  # (rows, inputs), each patient's reference
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    rests: tuple[Rest, ...]
    ranges: Mapping[str, RangeTable]
    rising: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, names: Sequence[str], ranges: Mapping[str, RangeTable], rising: frozenset[str] = frozenset()
    ) -> Encoding:
        """Returns the encoding of inputs; `rising` names those of which the task is sure that they raise the risk."""
        columns = [column for place, name in enumerate(names) for column in _columns(place, name, ranges, rising)]
        return cls(tuple(names), tuple(columns), tuple(_rest(name, ranges) for name in names), ranges, rising)

    @classmethod
    def plain(cls, names: Sequence[str]) -> Encoding:
        """Returns the encoding of a model trained before there were encodings: every input is a column as it is.

        Its estimates are explained against the same reference; nothing keeps an abnormal value from lowering them.
        """
        columns = tuple(Column(name, place, ColumnForm.PLAIN, 0) for place, name in enumerate(names))
        return replace(cls.of(names, normal_ranges()), columns=columns)

    def to_json(self) -> dict[str, Any]:
        """Returns what a model's manifest keeps: the inputs that rise, and the normal ranges used."""
        used = {scale_of(name) for name in self.names}
        ranges = {name: table.to_json() for name, table in self.ranges.items() if name in used}
        return {"rising": sorted(self.rising), "ranges": ranges}

    @classmethod
    def from_json(cls, names: Sequence[str], raw: Mapping[str, Any]) -> Encoding:
        """Raises KeyError, TypeError or ValueError for an encoding that is not valid."""
        ranges = {name: RangeTable.parse(item) for name, item in raw["ranges"].items()}
        return cls.of(names, ranges, frozenset(raw["rising"]))

    @property
    def concepts(self) -> tuple[str, ...]:
        """Returns the clinical concepts of the inputs, each once: the players of an explanation."""
        return tuple(dict.fromkeys(concept_of(name) for name in self.names))

    @property
    def players(self) -> list[int]:
        """Returns the position in `concepts` of each column's concept."""
        number = {concept: place for place, concept in enumerate(self.concepts)}
        return [number[concept_of(self.names[column.place])] for column in self.columns]

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def constraints(self) -> tuple[int, ...]:
        """Returns the monotone constraint of each column."""
        return tuple(column.direction for column in self.columns)

    def columns_of(self, x: Rows) -> Rows:
        """Returns the columns of rows (n, inputs), shape (n, columns); NaN where an input is unknown."""
        x = self._with_hours(x)
        made = x[:, self._places]
        low, high = self._bounds(x)
        for form, (columns, scales) in self._by_form.items():
            value, least, most = as_measured(made[:, columns]), low[:, scales], high[:, scales]
            made[:, columns] = _FORMED[form](value, least, most)
        return made

    def reference(self, x: Rows, medians: Mapping[str, float | None]) -> Rows:
        """Returns the reference of each row, shape (n, inputs); `medians` are those of the training patients."""
        found = np.array(x, dtype=np.float64)
        low, high = self._bounds(x)
        places, scales = self._normal
        found[:, places] = np.clip(as_measured(x[:, places]), low[:, scales], high[:, scales])
        for place, (name, rest) in enumerate(zip(self.names, self.rests, strict=True)):
            at = _RESTS[rest] if rest in _RESTS else medians.get(name) if rest is Rest.MEDIAN else None
            if at is not None:
                found[np.isfinite(found[:, place]), place] = at
        return found.astype(np.float32)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        return np.array([column.place for column in self.columns], dtype=np.int64)

    @cached_property
    def _scales(self) -> tuple[str, ...]:
        """The concepts of the normal ranges in use."""
        return tuple(sorted({scale for name in self.names if (scale := scale_of(name)) in self.ranges and scale}))

    @cached_property
    def _normal(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The positions of the inputs that have a normal range, and of their scales."""
        found = [
            (p, self._scales.index(str(scale_of(n)))) for p, n in enumerate(self.names) if self.rests[p] is Rest.NORMAL
        ]
        return _pairs(found)

    @cached_property
    def _by_form(self) -> Mapping[ColumnForm, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The positions of the columns of each form but plain, and of their scales."""
        found: dict[ColumnForm, list[tuple[int, int]]] = {}
        for number, column in enumerate(self.columns):
            if column.scale is not None:
                found.setdefault(column.form, []).append((number, self._scales.index(column.scale)))
        return {form: _pairs(pairs) for form, pairs in found.items()}

    def _bounds(self, x: Rows) -> tuple[Floats, Floats]:
        """Returns the lowest and the highest normal values of every scale for each row, each (n, scales)."""
        female, age = self._own(x, "sex.female"), self._own(x, "age.last")
        found = [self.ranges[scale].bounds(female, age) for scale in self._scales]
        if not found:
            return np.empty((len(x), 0)), np.empty((len(x), 0))
        return np.stack([low for low, _ in found], axis=1), np.stack([high for _, high in found], axis=1)

    def _own(self, x: Rows, name: str) -> Floats:
        if name not in self.names:
            return np.full(len(x), np.nan)
        return np.asarray(x[:, self.names.index(name)], dtype=np.float64)

    def _with_hours(self, x: Rows) -> Rows:
        """Returns rows in which a patient who is not ventilated was so for 0 hours; the record says only the former."""
        last, hours = "mechanical_ventilation.last", "mechanical_ventilation.hours"
        if last not in self.names or hours not in self.names:
            return x
        place, without = self.names.index(hours), x[:, self.names.index(last)] == 0
        found = np.array(x)
        found[without & np.isnan(x[:, place]), place] = 0.0
        return found


def encoding_for(task: str, names: Sequence[str]) -> Encoding:
    """Returns the encoding that a model of the task is trained with, by the shipped normal ranges."""
    return Encoding.of(names, normal_ranges(), _RISING_BY_TASK.get(task, frozenset()))


def scale_of(name: str) -> str | None:
    """Returns the concept of the normal range of an input; None for an input that is no level of a measurement.

    >>> scale_of("sodium.min"), scale_of("urine_output.rate_per_kg_24h"), scale_of("sodium.slope")
    ('sodium', 'urine_output_per_kg', None)
    """
    concept = concept_of(name)
    if concept.startswith("note."):
        concept = concept.removeprefix("note.")
    aggregate = name.rpartition(".")[2]
    if concept == "urine_output":
        if aggregate.startswith(_RATE_PER_KG):
            return "urine_output_per_kg"
        return concept if aggregate.startswith(_RATE) else None
    measured = concept in definitions().concepts or concept in RATIOS
    return concept if measured and aggregate in _LEVELS else None


def _is_measured(name: str) -> bool:
    concept = concept_of(name)
    return concept in definitions().concepts or concept in RATIOS


def _columns(place: int, name: str, ranges: Mapping[str, RangeTable], rising: frozenset[str]) -> Iterator[Column]:
    """Returns the columns of one input; none for the volume of one measurement of urine, which has no normal range."""
    scale = scale_of(name)
    if scale in ranges and scale is not None:
        yield from _measured_columns(place, name, scale, ranges[scale])
    elif not (concept_of(name) == "urine_output" and name.rpartition(".")[2] in _LEVELS):
        yield Column(name, place, ColumnForm.PLAIN, int(_rises(name, rising)))


def _measured_columns(place: int, name: str, scale: str, table: RangeTable) -> Iterator[Column]:
    if not table.harm_low:
        yield Column(name, place, ColumnForm.FLOORED, 1, scale)
    elif not table.harm_high:
        yield Column(name, place, ColumnForm.CAPPED, -1, scale)
    else:
        yield Column(f"{name}:below", place, ColumnForm.BELOW, 1, scale)
        yield Column(f"{name}:above", place, ColumnForm.ABOVE, 1, scale)
        yield Column(f"{name}:within", place, ColumnForm.WITHIN, 0, scale)


def _rises(name: str, rising: frozenset[str]) -> bool:
    plain = name.removeprefix("noted.")
    return plain in rising | _RISING | _RISING_FROM_MEDIAN or plain.startswith(_RISING_PREFIXES)


def _rest(name: str, ranges: Mapping[str, RangeTable]) -> Rest:
    plain = name.removeprefix("noted.")
    if scale_of(name) in ranges:
        return Rest.NORMAL
    if plain in _OWN or (_is_measured(name) and plain not in _RISING):
        return Rest.OWN
    if plain in _USUAL:
        return Rest.USUAL
    if plain in _RISING or plain.startswith((*_RISING_PREFIXES, *_FLAGS)) or plain.endswith(".grade"):
        return Rest.NONE
    return Rest.MEDIAN


def _pairs(found: Sequence[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.array([a for a, _ in found], dtype=np.int64), np.array([b for _, b in found], dtype=np.int64)


_FORMED: Mapping[ColumnForm, Callable[[Floats, Floats, Floats], Floats]] = {
    ColumnForm.FLOORED: lambda value, low, _: np.maximum(value, low),
    ColumnForm.CAPPED: lambda value, _, high: np.minimum(value, high),
    ColumnForm.BELOW: lambda value, low, _: np.maximum(low - value, 0.0),
    ColumnForm.ABOVE: lambda value, _, high: np.maximum(value - high, 0.0),
    ColumnForm.WITHIN: lambda value, low, high: np.clip(value, low, high),
}
_RESTS: Mapping[Rest, float] = {Rest.NONE: 0.0, Rest.USUAL: 1.0}
