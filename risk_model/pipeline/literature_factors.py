"""What to search the literature for: the factors of a patient, of a driver, and the outcome of a task."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fhir_mapping import PatientRecord
from knowledge_index import Evidence, Factor, KnowledgeIndex
from knowledge_index.vocabulary import (
    SETTINGS,
    factors,
    factors_of_concept,
)
from risk_model.core.values import Driver, NoteFindings
from risk_model.features.inputs import parts_of
from risk_model.notes.literature import factor_of

MAX_CONDITIONS = 40
ADULT = 18
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_KEY_SECTIONS = frozenset({"assessment", "hospital_course", "chief_complaint"})
"""Sections that say what the patient has; a plan also names what is intended or given against (immunizations)."""


def factors_behind(concept: str, own: Collection[str] | None) -> tuple[Factor, ...]:
    """Returns the factors of a model's input, a score or a group of diagnoses; of a ratio also those of its parts.

    `own` are the names of the patient's own factors: of a group only these diseases count, and the group as a whole.
    None if they are unknown.
    """
    found = factors_of_concept(concept)
    if own is not None and len(found) > 1:
        whole = concept.rpartition(".")[2]
        found = tuple(factor for factor in found if factor.name in own or factor.name == whole)
    parts = (factor for part in parts_of(f"{concept}.last") for factor in factors_of_concept(part))
    return tuple(dict.fromkeys((*found, *parts)))


def fits(item: Evidence, factor: Factor, own: Collection[str] | None) -> bool:
    """Whether an article found for a factor is about such patients: in this setting, with one of these diseases."""
    if own is None:
        return True
    settings = [name for name in item.populations if name in SETTINGS]
    diseases = [name for name in item.populations if name not in SETTINGS]
    return all(name in own for name in settings) and (
        not diseases or any(name in own or name == factor.name for name in diseases)
    )


@dataclass(frozen=True, slots=True)
class PatientFactors:
    """A patient's factors, the most relevant first, and the names of those that are diagnoses or findings."""

    ordered: tuple[Factor, ...] = ()
    own: tuple[str, ...] = ()


def factors_of_patient(
    record: PatientRecord, findings: NoteFindings, drivers: Sequence[Driver], index: KnowledgeIndex
) -> PatientFactors:
    """Returns the patient's factors: reasons of the stay, findings in notes, the problem list (diagnoses of this stay
    before older ones), and what raises the estimate. None for a child: the literature is about adults.
    """
    age = record.features().number("age.last")
    if age is not None and age < ADULT:
        return PatientFactors()
    known: dict[str, Factor] = {}
    weights: dict[str, float] = {}
    for found in (_of_stay(record, index), _of_notes(findings, index), _of_conditions(record, index)):
        for factor, weight in found.items():
            known.setdefault(factor.name, factor)
            weights[factor.name] = weights.get(factor.name, 0.0) + weight
    stay = record.current_stay
    own = (*known, SETTINGS[not stay.intensive_care]) if stay is not None else tuple(known)
    for driver in drivers:
        if driver.contribution > 0:
            for factor in factors_behind(driver.concept, own):
                known.setdefault(factor.name, factor)
                weights[factor.name] = weights.get(factor.name, 0.0) + min(2.0, 4 * driver.contribution)
    place = {name: at for at, name in enumerate(factors())}
    names = sorted(known, key=lambda name: (-weights[name], place.get(name, len(place)), name))
    return PatientFactors(tuple(known[name] for name in names), own)


def _of_stay(record: PatientRecord, index: KnowledgeIndex) -> dict[Factor, float]:
    reasons = record.current_stay.reasons if record.current_stay else ()
    linked = index.link_codes((coding.system, coding.code, coding.display) for coding in reasons)
    return {factor_of(item.concept, index): 5.0 for item in linked}


def _of_notes(findings: NoteFindings, index: KnowledgeIndex) -> dict[Factor, float]:
    said = (item for item in findings.findings if item.counts and item.section in _KEY_SECTIONS)
    concepts = (index.concept(finding.concept_ui) for finding in said)
    return {factor_of(concept, index): 1.0 for concept in concepts if concept is not None}


def _of_conditions(record: PatientRecord, index: KnowledgeIndex) -> dict[Factor, float]:
    """A diagnosis recorded in this stay counts twice as much as an older one."""
    found: dict[Factor, float] = {}
    dated = [(c.recorded or c.onset or _LONG_AGO, c) for c in record.conditions if c.active]
    dated.sort(key=lambda item: (item[0], item[1].source), reverse=True)
    for moment, condition in dated[:MAX_CONDITIONS]:
        new = record.current_stay is not None and moment >= record.current_stay.start
        for linked in index.link_codes((c.system, c.code, c.display) for c in condition.codings):
            factor = factor_of(linked.concept, index)
            found[factor] = max(found.get(factor, 0.0), 2.0 if new else 1.0)
    return found
