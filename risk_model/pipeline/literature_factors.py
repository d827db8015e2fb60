"""What to search the literature for: the factors of a patient, of a driver, and the outcome of a task."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from fhir_mapping import PatientRecord
from knowledge_index import Concept, Factor, KnowledgeIndex, Outcome
from knowledge_index.linking import in_plain_order
from knowledge_index.vocabulary import OUTCOMES, factor_of_heading, factors, factors_of_concept
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D
from risk_model.core.values import Driver, Experiencer, Finding, NoteFindings, Polarity, Temporality

MAX_CONDITIONS = 40
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_OUTCOME_OF_TASK = {IN_HOSPITAL_MORTALITY: "mortality", READMISSION_30D: "readmission"}
_KEY_SECTIONS = frozenset({"assessment", "plan", "discharge_plan", "hospital_course", "chief_complaint"})
_SPECIFIC = 3
"""Numbers in a MeSH tree number from which a disease may stand for those directly below it (`C14.280.434`, heart
failure); above are whole chapters (`C14.280`, heart diseases)."""


def outcome_of(task: str, index: KnowledgeIndex) -> Outcome:
    """Returns the outcome of a task; for a task of a hospital's own, the headings that its name mentions."""
    if task in _OUTCOME_OF_TASK:
        return OUTCOMES[_OUTCOME_OF_TASK[task]]
    words = task.replace("_", " ")
    return Outcome(task, words, words, tuple(linked.concept.name for linked in index.link_text(words)))


def factor_of(concept: Concept, index: KnowledgeIndex) -> Factor:
    """Returns the factor that papers about a MeSH heading are about: its own, or that of the disease directly above it;
    otherwise the heading itself.
    """
    known = factor_of_heading(concept.name)
    if known is not None:
        return known
    for above in index.broader(concept):
        specific = any(number.count(".") + 1 >= _SPECIFIC for number in above.tree_numbers)
        found = factor_of_heading(above.name) if specific else None
        if found is not None:
            return found
    plain = in_plain_order(concept.name)
    label = plain if plain[1:2].isupper() else plain[:1].lower() + plain[1:]
    return Factor(concept.ui, label, (concept.name,))


def factors_behind(concept: str, own: Collection[str] | None) -> tuple[Factor, ...]:
    """Returns the factors of a model's input, a score or a group of diagnoses.

    `own` are the names of the patient's own factors: of a group only these diseases count, and the group as a whole.
    None if they are unknown.
    """
    found = factors_of_concept(concept)
    if own is None or len(found) < 2:
        return found
    whole = concept.rpartition(".")[2]
    return tuple(factor for factor in found if factor.name in own or factor.name == whole)


def factors_of_patient(
    record: PatientRecord, findings: NoteFindings, drivers: Sequence[Driver], index: KnowledgeIndex
) -> tuple[Factor, ...]:
    """Returns the patient's factors, the most relevant first: reasons of the stay, findings in notes, the problem list,
    and what raises the estimate.
    """
    known: dict[str, Factor] = {}
    weights: dict[str, float] = {}

    def add(factor: Factor, weight: float) -> None:
        known.setdefault(factor.name, factor)
        weights[factor.name] = weights.get(factor.name, 0.0) + weight

    stay = record.current_stay
    for linked in index.link_codes((c.system, c.code, c.display) for c in (stay.reasons if stay else ())):
        add(factor_of(linked.concept, index), 3.0)
    for finding in findings.findings:
        concept = index.concept(finding.concept_ui) if _counts(finding) else None
        if concept is not None:
            add(factor_of(concept, index), 1.0 if finding.section in _KEY_SECTIONS else 0.3)
    dated = [(c.recorded or c.onset or _LONG_AGO, c) for c in record.conditions if c.active]
    dated.sort(key=lambda item: (item[0], item[1].source), reverse=True)
    for _, condition in dated[:MAX_CONDITIONS]:
        for linked in index.link_codes((c.system, c.code, c.display) for c in condition.codings):
            add(factor_of(linked.concept, index), 1.0)
    own = frozenset(known)
    for driver in drivers:
        if driver.contribution > 0:
            for factor in factors_behind(driver.concept, own):
                add(factor, min(2.0, 4 * driver.contribution))
    order = tuple(factors())
    place = {name: at for at, name in enumerate(order)}
    names = sorted(known, key=lambda name: (-weights[name], place.get(name, len(order)), name))
    return tuple(known[name] for name in names)


def _counts(finding: Finding) -> bool:
    return (
        finding.polarity is Polarity.PRESENT
        and finding.temporality is Temporality.CURRENT
        and finding.experiencer is Experiencer.PATIENT
    )
