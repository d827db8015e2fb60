"""What the literature calls the outcome of a task and a patient's diseases: what to search it for."""

from __future__ import annotations

from knowledge_index import Concept, Factor, KnowledgeIndex, Outcome
from knowledge_index.vocabulary import OUTCOMES, factor_of_heading, in_plain_order
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D

_OUTCOME_OF_TASK = {IN_HOSPITAL_MORTALITY: "mortality", READMISSION_30D: "readmission"}
_SPECIFIC = 3
"""Numbers in a MeSH tree number from which a disease may stand for those directly below it (`C14.280.434`, heart
failure); above are whole chapters (`C14.280`, heart diseases)."""


def outcome_of(task: str, index: KnowledgeIndex) -> Outcome:
    """Returns the outcome of a task; for a task of a hospital's own, the headings that its name mentions."""
    if task in _OUTCOME_OF_TASK:
        return OUTCOMES[_OUTCOME_OF_TASK[task]]
    words = task.replace("_", " ")
    return Outcome(task, words, words, tuple(linked.concept.name for linked in index.link_text(words)))


# MeSH lists bronchitis below the obstructive diseases of the lung; an acute disease is no chronic one.
_CHRONIC = frozenset({"airways"})


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
        if found is not None and found.name not in _CHRONIC:
            return found
    return Factor(concept.ui, in_plain_order(concept.name), (concept.name,))
