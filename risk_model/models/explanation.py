"""Explanations of an estimate: signed drivers by clinical concept, and counterfactual estimates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.core import format_number, format_quantity
from fhir_mapping.terminology import GRADES, definitions, note_phrases
from risk_model.core.values import Counterfactual, Driver
from risk_model.features import inputs

MAX_DRIVERS = 8
MAX_COUNTERFACTUALS = 3
SMALLEST_CONTRIBUTION = 0.02  # log-odds; smaller drivers are not shown
SMALLEST_CHANGE = 0.005  # of the probability


@dataclass(frozen=True, slots=True)
class Explained:
    """One patient's row of inputs and the record it was computed from."""

    record: PatientRecord
    vector: FeatureVector
    names: tuple[str, ...]
    row: inputs.Row

    def by_concept(self, contributions: NDArray[np.float64]) -> dict[str, float]:
        """Returns contributions of shape (inputs,) summed by clinical concept; tree SHAP values are additive."""
        sums: dict[str, float] = {}
        for name, contribution in zip(self.names, contributions.tolist(), strict=True):
            concept = inputs.concept_of(name)
            sums[concept] = sums.get(concept, 0.0) + contribution
        return sums

    def names_of(self, concept: str) -> list[str]:
        return [name for name in self.names if inputs.concept_of(name) == concept]

    def value_of(self, concept: str) -> str | None:
        return format_driver_value(self.record, concept, self.names_of(concept), self.row, self.names, self.vector)


def drivers(explained: Explained, contributions: NDArray[np.float64]) -> tuple[Driver, ...]:
    """Returns the concepts that change the estimate most, each with its value; `contributions` in log-odds, one per
    input."""
    ranked = sorted(explained.by_concept(contributions).items(), key=lambda item: -abs(item[1]))
    found: list[Driver] = []
    for concept, contribution in ranked:
        if abs(contribution) < SMALLEST_CONTRIBUTION or len(found) == MAX_DRIVERS:
            break
        value = explained.value_of(concept)
        if value is not None:
            sources = _sources(explained, concept)
            modifiable = concept in inputs.MODIFIABLE
            found.append(Driver(concept, inputs.label_of(concept), value, contribution, modifiable, sources))
    return tuple(found)


def _sources(explained: Explained, concept: str) -> tuple[str, ...]:
    names = explained.names_of(concept)
    found = dict.fromkeys(s for n in names for s in inputs.sources(explained.record, n, explained.vector))
    return tuple(found)[:5]


def counterfactuals(
    explained: Explained,
    contributions: NDArray[np.float64],
    typical: Mapping[str, float | None],
    probability: float,
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]],
) -> tuple[Counterfactual, ...]:
    """Returns the estimates if one measured, modifiable concept were as in a typical patient without the outcome.

    These are associations in the training data, not effects: changing the value need not change the outcome. `predict`
    maps rows (n, inputs) to probabilities (n,).
    """
    sums = explained.by_concept(contributions)
    asked = [concept for concept, moves in sums.items() if moves > SMALLEST_CONTRIBUTION and _measured(concept)]
    rows, changes = [], []
    for concept in asked:
        changed, value = _changed(explained, concept, typical), explained.value_of(concept)
        instead = typical.get(f"{concept}.last")
        if changed is not None and value is not None and instead is not None:
            rows.append(changed)
            changes.append((concept, value, _with_unit(instead, explained.vector, concept)))
    if not rows:
        return ()
    answers = predict(np.array(rows, dtype=np.float32))
    found = [
        Counterfactual(concept, inputs.label_of(concept), value, instead, float(answer))
        for (concept, value, instead), answer in zip(changes, answers, strict=True)
        if answer <= probability - SMALLEST_CHANGE
    ]
    return tuple(sorted(found, key=lambda item: item.probability)[:MAX_COUNTERFACTUALS])


def _measured(concept: str) -> bool:
    return concept in inputs.MODIFIABLE and concept in definitions().concepts


def _changed(explained: Explained, concept: str, typical: Mapping[str, float | None]) -> inputs.Row | None:
    """Returns the row with every known input of the concept at its typical value; None if nothing would change."""
    row = explained.row.copy()
    for place, name in enumerate(explained.names):
        value = typical.get(name)
        if inputs.concept_of(name) == concept and np.isfinite(row[place]) and value is not None:
            row[place] = value
    return None if np.array_equal(row, explained.row, equal_nan=True) else row


def _with_unit(value: float, vector: FeatureVector, concept: str) -> str:
    known = vector.values.get(f"{concept}.last")
    return format_quantity(value, None if known is None else known.unit)


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
    if concept in _FLAGS:
        return "yes" if values[known[0]] else "no"
    last = vector.values.get(f"{concept}.last") or vector.values.get(f"{concept}.count")
    if last is None:
        return format_number(values[known[0]])
    words = last.value if isinstance(last.value, str) else format_quantity(last.value, last.unit)
    low, high = vector.number(f"{concept}.min"), vector.number(f"{concept}.max")
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
