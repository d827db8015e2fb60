"""What-if estimates: the record with changed values, recalculated in full.

Everything derived from a value changes with it (extremes, slopes, ratios, scores), and the model abstains if the
changed record is out of distribution. The result is an association learned from other patients, not a treatment effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cds_hooks import HookError
from cds_service.cards.wording import percent
from cds_service.explanations.drivers import window
from cds_service.explanations.risk_now import frequency
from fhir_mapping import PatientRecord
from fhir_mapping.core import format_number, format_unit
from fhir_mapping.terminology import ConceptDefinition, definitions
from risk_model import TASKS, Assessment, RiskEstimate, RiskModel
from risk_model.features import MODIFIABLE, concept_of

SHOWN = 6
LEAVES = "discharged_to"
# Discharge destinations by their NUBC code, as the models read them.
PLACES = {
    "01": "home",
    "06": "home with home care",
    "03": "a skilled nursing facility",
    "62": "a rehabilitation facility",
    "63": "a long-term care hospital",
    "02": "another hospital",
    "07": "home against medical advice",
}


@dataclass(frozen=True, slots=True)
class Lever:
    """A modifiable input that the record has. `moves` is its direction if it is a driver."""

    concept: str
    label: str
    unit: str
    now: str
    low: float
    high: float
    moves: str
    asked: str = ""


@dataclass(frozen=True, slots=True)
class WhatIfAnswer:
    """One task before and after; `after` is None where the model abstains, and `abstention` says why."""

    task: str
    title: str
    before: str
    after: str | None
    frequency: str
    abstention: str
    length_before: float
    length_after: float
    scores: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Levers:
    measured: tuple[Lever, ...]
    leaves: bool
    leaving: str = ""


def levers(assessments: Sequence[Assessment], record: PatientRecord, models: Sequence[RiskModel]) -> Levers:
    """Returns the changeable inputs, the strongest drivers first; none if every model abstains."""
    answering = [(a, m) for a, m in zip(assessments, models, strict=True) if a.estimate.probability is not None]
    read = {concept_of(name) for _, model in answering for name in model.names}
    moves: dict[str, float] = {}
    for assessment, _ in answering:
        for driver in assessment.estimate.drivers:
            moves[driver.concept] = max(moves.get(driver.concept, 0.0), driver.contribution, key=abs)
    vector = record.features()
    found = []
    for concept in definitions().concepts.values():
        last = vector.number(f"{concept.name}.last")
        if concept.name in read & MODIFIABLE and last is not None:
            found.append((-abs(moves.get(concept.name, 0.0)), _lever(concept, last, moves.get(concept.name, 0.0))))
    ordered = tuple(lever for _, lever in sorted(found, key=lambda item: (item[0], item[1].label)))
    return Levers(ordered, LEAVES in read)


def _lever(concept: ConceptDefinition, last: float, contribution: float) -> Lever:
    moves = "" if not contribution else "raises the risk" if contribution > 0 else "lowers the risk"
    unit = format_unit(concept.unit)
    return Lever(concept.name, concept.label, unit, format_number(last), concept.low, concept.high, moves)


@dataclass(frozen=True, slots=True)
class WhatIfQuestion:
    """Values by concept for the whole stay, and the discharge destination (a code of PLACES)."""

    values: Mapping[str, float]
    leaving: str = ""

    @classmethod
    def of_form(cls, form: Mapping[str, str], offered: Levers) -> WhatIfQuestion:
        """Reads the offered fields that differ from now. Raises HookError 400 naming an invalid field."""
        values: dict[str, float] = {}
        for lever in offered.measured:
            text = form.get(lever.concept, "").strip().replace(",", ".")
            if text and text != lever.now:
                values[lever.concept] = _number(text, lever)
        leaving = form.get(LEAVES, "")
        if leaving and (leaving not in PLACES or not offered.leaves):
            raise HookError(400, "value", "Discharge to: choose one of the listed places.")
        return cls(values, leaving)

    def shown(self, offered: Levers) -> Levers:
        """Returns the form with the submitted values."""
        asked = tuple(
            replace(lever, asked=f"{self.values[lever.concept]:.10g}") if lever.concept in self.values else lever
            for lever in offered.measured
        )
        return Levers(asked, offered.leaves, self.leaving)

    def __bool__(self) -> bool:
        return bool(self.values or self.leaving)


def _number(text: str, lever: Lever) -> float:
    wanted = f"{lever.label}: a number from {lever.low:g} to {lever.high:g} {lever.unit}".strip()
    try:
        value = float(text)
    except ValueError:
        raise HookError(400, "value", f"{wanted} is required.") from None
    if not lever.low <= value <= lever.high:
        raise HookError(400, "value", f"{wanted} is required.")
    return value


def changed(record: PatientRecord, question: WhatIfQuestion) -> PatientRecord:
    """Returns the record with every value in the window replaced, at the original times."""
    since = window(record)
    measurements = tuple(
        replace(m, value=question.values[m.concept]) if m.concept in question.values and m.time >= since else m
        for m in record.measurements
    )
    stay = record.current_stay
    if question.leaving and stay is not None:
        stay = replace(stay, discharge_disposition=question.leaving)
    return replace(record, measurements=measurements, current_stay=stay)


def answers(before: Sequence[RiskEstimate], after: Sequence[RiskEstimate]) -> tuple[WhatIfAnswer, ...]:
    """Returns before and after for every task that had an estimate before."""
    compared = []
    for old, new in zip(before, after, strict=True):
        if old.probability is None:
            continue
        top = max(old.probability, new.probability or 0.0)
        compared.append(
            WhatIfAnswer(
                old.task,
                TASKS[old.task].title,
                percent(old.probability),
                None if new.probability is None else percent(new.probability),
                "" if new.probability is None else frequency(new.probability),
                "" if new.abstention is None else new.abstention.reason,
                round(100 * old.probability / top, 1),
                round(100 * (new.probability or 0.0) / top, 1),
                _scores(old, new),
            )
        )
    return tuple(compared)


def _scores(old: RiskEstimate, new: RiskEstimate) -> tuple[tuple[str, str, str], ...]:
    """(score, points before, points after) of those that changed."""
    later = {score.name: score.in_words() for score in new.comparators}
    return tuple(
        (score.name, score.in_words(), later[score.name])
        for score in old.comparators
        if later.get(score.name, score.in_words()) != score.in_words()
    )
