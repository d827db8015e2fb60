"""Explanations of an estimate: signed drivers by clinical concept, and counterfactual estimates.

An estimate is explained against the patient's own reference (`risk_model.features.encoding`): the same patient with
every abnormal value at the nearest normal one. The contributions of all concepts add up, in log-odds, to the difference
between the two. A normal value has none; a harmful departure has none or one that raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.core import format_number, format_quantity
from fhir_mapping.terminology import GRADES, definitions, note_phrases
from risk_model.core.values import Abnormality, Counterfactual, Driver
from risk_model.features import inputs
from risk_model.features.encoding import scale_of
from risk_model.features.normal_ranges import as_measured, normal_range
from risk_model.features.stay_medications import PREFIX as STAY_MEDICATION

MAX_DRIVERS = 8
MAX_COUNTERFACTUALS = 3
SMALLEST_CONTRIBUTION = 0.02  # log-odds; smaller drivers are not shown
SMALLEST_CHANGE = 0.005  # of the probability
# Of a concept's inputs, those that a clinician reads, in the order they are preferred: the last value if it is abnormal
# itself, else the worst of the stay.
_SHOWN = ("last", "min", "max", "mean")
_SHOWN_RATES = ("rate_per_kg_24h", "rate_per_kg_12h", "rate_per_kg_6h", "rate_24h", "rate_12h", "rate_6h")
_UNITS = {"urine_output": "mL/h", "urine_output_per_kg": "mL/kg/h", "pao2_fio2": "mm[Hg]", "pulse_pressure": "mm[Hg]"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A probability, that of the patient's reference, and what each concept adds between them, in log-odds.

    The log-odds of `probability` are those of `reference` plus the sum of `contributions`.
    """

    probability: float
    reference: float
    contributions: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Explained:
    """One patient's row of inputs, its reference, and the record it was computed from."""

    record: PatientRecord
    vector: FeatureVector
    names: tuple[str, ...]
    row: inputs.Row
    reference: inputs.Row

    def names_of(self, concept: str) -> list[str]:
        return list(_by_concept(self.names).get(concept, ()))

    def value_of(self, concept: str) -> ShownValue | None:
        """Returns what is shown of a concept; None if nothing of it is known."""
        measured = self._measured(concept)
        if measured is not None:
            return measured
        words = format_driver_value(self.record, concept, self.names_of(concept), self.row, self.names, self.vector)
        return None if words is None else ShownValue(words)

    def _measured(self, concept: str) -> ShownValue | None:
        """Returns the abnormal value of a measurement that is nearest to now, else its last one."""
        known = list(self._levels(concept))
        if not known:
            return None
        chosen = next((item for item in known if item[3] is not Abnormality.NORMAL), known[0])
        aggregate, number, unit, abnormal = chosen
        words = format_quantity(number, unit)
        last = next((item[1] for item in known if item[0] == "last"), None)
        worst = {"min": "lowest", "max": "highest", "mean": "mean"}.get(aggregate)
        if worst is not None and last is not None:
            words += f" ({worst}; last {format_number(last)})"
        elif aggregate.startswith("rate_"):
            words += f" in the last {aggregate.rpartition('_')[2].removesuffix('h')} h"
        return ShownValue(words, abnormal, number, unit)

    def _levels(self, concept: str) -> Iterator[tuple[str, float, str | None, Abnormality]]:
        """Returns (aggregate, value, unit, where it lies) of the known inputs that have a normal range."""
        sex, age = self.record.sex, self.vector.number("age.last")
        places = _places(self.names)
        for aggregate in (*_SHOWN, *_SHOWN_RATES):
            name = f"{concept}.{aggregate}"
            scale, place = scale_of(name), places.get(name)
            value = np.nan if place is None else float(self.row[place])
            normal = None if scale is None else normal_range(scale, sex, age)
            if normal is not None and np.isfinite(value):
                number = float(as_measured(np.array(value)))
                yield aggregate, number, _unit_of(str(scale)), normal.of(number)


@lru_cache(maxsize=8)  # one for each open model
def _by_concept(names: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(inputs.concept_of(name), []).append(name)
    return {concept: tuple(own) for concept, own in found.items()}


@lru_cache(maxsize=8)
def _places(names: tuple[str, ...]) -> Mapping[str, int]:
    """Returns the place of each input, also of one that notes fill, by the name of its measurement."""
    return {name.removeprefix("noted."): place for place, name in enumerate(names)}


@dataclass(frozen=True, slots=True)
class ShownValue:
    """A driver's value: in words, where it lies beside the normal range, and the number itself."""

    words: str
    abnormal: Abnormality | None = None
    number: float | None = None
    unit: str | None = None


def _unit_of(scale: str) -> str | None:
    concept = definitions().concepts.get(scale)
    return _UNITS.get(scale, None if concept is None else concept.unit)


def drivers(explained: Explained, contributions: Mapping[str, float]) -> tuple[Driver, ...]:
    """Returns the concepts that change the estimate most, each with its value; `contributions` in log-odds."""
    ranked = sorted(contributions.items(), key=lambda item: -abs(item[1]))
    found: list[Driver] = []
    for concept, contribution in ranked:
        if abs(contribution) < SMALLEST_CONTRIBUTION or len(found) == MAX_DRIVERS:
            break
        shown = explained.value_of(concept)
        if shown is not None:
            label, sources = inputs.label_of(concept), _sources(explained, concept)
            modifiable = inputs.is_modifiable(concept, shown.abnormal)
            found.append(
                Driver(
                    concept,
                    label,
                    shown.words,
                    contribution,
                    modifiable,
                    sources,
                    shown.abnormal,
                    shown.number,
                    shown.unit,
                )
            )
    return tuple(found)


def _sources(explained: Explained, concept: str) -> tuple[str, ...]:
    names = explained.names_of(concept)
    found = dict.fromkeys(s for n in names for s in inputs.sources(explained.record, n, explained.vector))
    return tuple(found)[:5]


def counterfactuals(
    explained: Explained,
    contributions: Mapping[str, float],
    probability: float,
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]],
) -> tuple[Counterfactual, ...]:
    """Returns the estimates if one abnormal concept that is treated were at the nearest normal value.

    These are associations in the training data, not effects: changing the value need not change the outcome. `predict`
    maps rows (n, inputs) to probabilities (n,).
    """
    rows, changes = [], []
    for concept, contribution in contributions.items():
        shown = explained.value_of(concept) if contribution > SMALLEST_CONTRIBUTION else None
        if shown is None or shown.number is None or not inputs.is_modifiable(concept, shown.abnormal):
            continue
        scale = scale_of(f"{concept}.last")
        normal = None if scale is None else normal_range(scale, explained.record.sex, _age(explained))
        if normal is not None:
            nearest = normal.low if shown.abnormal is Abnormality.LOW else normal.high
            rows.append(_changed(explained, concept))
            changes.append((concept, shown.words, format_quantity(nearest, shown.unit)))
    if not rows:
        return ()
    answers = predict(np.array(rows, dtype=np.float32))
    found = [
        Counterfactual(concept, inputs.label_of(concept), value, instead, float(answer))
        for (concept, value, instead), answer in zip(changes, answers, strict=True)
        if answer <= probability - SMALLEST_CHANGE
    ]
    return tuple(sorted(found, key=lambda item: item.probability)[:MAX_COUNTERFACTUALS])


def _age(explained: Explained) -> float | None:
    return explained.vector.number("age.last")


def _changed(explained: Explained, concept: str) -> inputs.Row:
    """Returns the row with every input of the concept as in the reference."""
    mine = np.array([inputs.concept_of(name) == concept for name in explained.names])
    return np.where(mine, explained.reference, explained.row)


def format_driver_value(
    record: PatientRecord,
    concept: str,
    names: Sequence[str],
    row: inputs.Row,
    all_names: Sequence[str],
    vector: FeatureVector,
) -> str | None:
    """Returns a driver's value as a clinician would write it, or None if none is known."""
    values = dict(zip(all_names, row.tolist(), strict=True))
    known = [name for name in names if np.isfinite(values[name])]
    if not known:
        return None
    if concept == "discharged_to":
        went = [name.partition(".")[2] for name in known if values[name]]
        return _WENT.get(went[0], "elsewhere") if went else "elsewhere"
    if concept == "sex":
        return record.sex
    if concept == "admitted_from":
        came = [name.partition(".")[2] for name in known if values[name]]
        return _CAME.get(came[0], "elsewhere") if came else "elsewhere"
    if concept.startswith("finding."):
        return "in notes" if values[known[0]] else None
    if any(name.startswith(("group.", "disease.", "reason.")) for name in names):
        # The absence of a disease is not shown as a driver, though trees use it.
        return "recorded" if any(values[name] for name in known) else None
    if concept.startswith("note."):
        return _as_notes_say(concept.removeprefix("note."), {name: values[name] for name in known})
    if concept == "stage1":
        return f"{100 / (1 + exp(-values[known[0]])):.0f} % by the notes alone"
    if concept.endswith("_embedding"):
        return "as embedded"
    if concept.startswith(STAY_MEDICATION):
        return "ordered or given" if values[known[0]] else "none"
    if concept in _FLAGS:
        return "yes" if values[known[0]] else "no"
    last = vector.values.get(f"{concept}.last") or vector.values.get(f"{concept}.count")
    low, high = vector.number(f"{concept}.min"), vector.number(f"{concept}.max")
    if last is None:
        # A count of which only the bounds are known enters as their mean, which nobody counted.
        if low is not None and high is not None and low < high:
            return f"{format_number(low)}–{format_number(high)}"
        return format_number(values[known[0]])
    words = last.value if isinstance(last.value, str) else format_quantity(last.value, last.unit)
    if low is not None and high is not None and low != high:
        words += f" (range {format_number(low)} to {format_number(high)})"
    return words


def _as_notes_say(concept: str, values: Mapping[str, float]) -> str:
    """Returns `8`, `yes`, or the grade if notes give no number."""
    number = values.get(f"note.{concept}.last")
    if number is None:
        grade = int(values.get(f"note.{concept}.grade", 0))
        return next(word for word, meant in GRADES.items() if meant == grade)
    if concept in note_phrases().states:
        return "yes" if number else "no"
    unit = note_phrases().concepts[concept].definition.unit
    return format_quantity(number, unit)


_FLAGS = frozenset({"acute_admission", "mechanical_ventilation", "intensive_care"})
_CAME = {
    "emergency": "emergency department",
    "hospital_transfer": "another hospital",
    "facility": "a nursing facility",
    "referral": "home, by referral",
}
_WENT = {
    "home": "home",
    "home_care": "home with home care",
    "facility": "a nursing or rehabilitation facility",
    "nursing": "a nursing facility",
    "rehabilitation": "a rehabilitation facility",
    "long_term_care": "a long-term care hospital",
    "hospital": "another hospital",
    "psychiatric": "a psychiatric hospital",
    "against_advice": "home against medical advice",
}
