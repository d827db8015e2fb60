"""What an estimate lacks, in a clinician's words: never measured, or too old; nothing that is charted is "missing"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

from cds_service.cards.scores import fitting_scores, leading_score
from cds_service.cards.wording import lower_first, short_name
from fhir_mapping import PatientRecord
from fhir_mapping.terminology import definitions
from risk_model import RiskEstimate

MAX_MISSING = 3
# Abstentions after which data would still give an estimate: then what is missing matters.
_DATA_WOULD_HELP = frozenset({"too-little-data", "input-unknown"})
# The inputs of scores by concept; what is not here is no measurement.
_CONCEPTS: Mapping[str, str] = MappingProxyType(
    {
        "oxygen saturation": "spo2", "respiratory rate": "respiratory_rate", "systolic pressure": "systolic_bp",
        "heart rate": "heart_rate", "temperature": "temperature", "consciousness": "gcs", "glasgow coma scale": "gcs",
        "platelets": "platelets", "bilirubin": "bilirubin", "creatinine": "creatinine", "urea nitrogen": "bun",
        "white cells": "wbc", "potassium": "potassium", "sodium": "sodium", "bicarbonate": "bicarbonate",
        "mean arterial pressure": "mean_bp", "oxygenation (pao2/fio2)": "pao2", "air or oxygen": "fio2",
        "hemoglobin": "hemoglobin",
    }
)  # fmt: skip
# The scores' names of inputs that are no measurement, as one would ask for them.
_ASKED: Mapping[str, str] = MappingProxyType(
    {"air or oxygen": "whether on oxygen", "type of admission": "whether admitted for surgery"}
)
# Charted under one name, it is not missing under the other.
_ALSO: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"urine_output": ("daily_urine_output",), "mean_bp": ("systolic_bp",), "fio2": ("oxygen_flow",)}
)
OLD = "older than 24 h"


@dataclass(frozen=True, slots=True)
class MissingInput:
    """One missing input; `old` where it was measured in this stay, but too long ago. `by` is the score, "" the model.

    `code` is the reason of fhir_mapping, for the model's inputs.
    """

    name: str
    old: bool
    by: str
    code: str = ""
    concept: str = ""

    def in_words(self) -> str:
        short = short_name(self.concept, self.name)
        return f"{short} ({OLD})" if self.old else short


def missing_inputs(estimate: RiskEstimate, record: PatientRecord) -> tuple[MissingInput, ...]:
    """Returns every missing input once: those of the best-fitting score, then those of the model."""
    found: dict[str, MissingInput] = {}
    charted = _charted(record)
    for item in (*_of_score(estimate, charted), *_of_model(estimate, charted)):
        found.setdefault(item.concept or item.name.casefold(), item)
    return tuple(found.values())


def missing_that_matters(estimate: RiskEstimate, record: PatientRecord) -> tuple[str, ...]:
    """Returns at most three: the score's first, which widen its range; the model's only for its own patients."""
    helps = estimate.abstention is None or estimate.abstention.code in _DATA_WOULD_HELP
    # What the reason of an abstention names is not said twice.
    reason = "" if estimate.abstention is None else estimate.abstention.reason.casefold()
    asked = [i for i in missing_inputs(estimate, record) if (helps or i.by) and i.name.casefold() not in reason]
    return tuple(item.in_words() for item in asked[:MAX_MISSING])


def _of_score(estimate: RiskEstimate, charted: Set[str]) -> Iterator[MissingInput]:
    # Where too much is missing for every score, the first is the one to complete.
    score = leading_score(estimate) or next(iter(fitting_scores(estimate)), None)
    for name in () if score is None else score.missing:
        concept = _CONCEPTS.get(name.casefold(), "")
        old, by = concept in charted, score.name if score else ""
        asked = _ASKED.get(name)
        yield MissingInput(name, old, by, "", concept) if asked is None else MissingInput(asked, old, by)


def _of_model(estimate: RiskEstimate, charted: Set[str]) -> Iterator[MissingInput]:
    labels = {concept.label: name for name, concept in definitions().concepts.items()}
    for gap in estimate.gaps:
        concept = labels.get(gap.name, "")
        if not charted.isdisjoint(_ALSO.get(concept, ())):
            continue
        yield MissingInput(lower_first(gap.name), concept in charted, "", gap.reason, concept)


def _charted(record: PatientRecord) -> Set[str]:
    """Returns the concepts that were measured in this stay."""
    start = None if record.current_stay is None else record.current_stay.start
    return {m.concept for m in record.measurements if start is None or m.time >= start}
