"""What a first stage's language model is shown beside a patient's notes: problems, and literature about them.

    with_knowledge(asked_windows(notes), index, task)      # the same windows, the same knowledge beside each

Problems are what the notes say the patient has or had; evidence is about these and the task's outcome, at most
MAX_PASSAGES passages, from different communities of articles where there are some.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from knowledge_index import (
    Concept,
    Evidence,
    Experiencer,
    KnowledgeIndex,
    Polarity,
    RetrievalError,
    Temporality,
    TextContext,
    spread,
)
from risk_model.core.tasks import Task
from risk_model.notes.literature import factor_of, outcome_of
from risk_model.notes.rule_reader import is_finding
from risk_model.prompts.knowledge import Knowledge
from risk_model.prompts.note_prompt import MAX_PASSAGES, Window, harmless, passages

MOST_PROBLEMS = 8
MOST_FACTORS = 4
"""Problems that the literature is searched for."""
_EACH = 4
"""Passages taken from each search, to choose from."""


def with_knowledge(windows: Sequence[Window], index: KnowledgeIndex, task: str | Task) -> tuple[Window, ...]:
    """Returns the windows with what is known beside them; windows without a problem of the patient as they are."""
    knowledge = knowledge_about(windows, index, task)
    return tuple(replace(window, knowledge=knowledge) for window in windows)


def knowledge_about(windows: Sequence[Window], index: KnowledgeIndex, task: str | Task) -> Knowledge:
    """Returns a patient's problems in the order of the windows, and the evidence about them and the task."""
    problems = list(dict.fromkeys(problem for window in windows for problem in _problems(window.text, index)))
    outcome = outcome_of(task if isinstance(task, str) else task.id, index)
    factors = list(dict.fromkeys(factor_of(concept, index) for concept in problems))[:MOST_FACTORS]
    answers = []
    for factor in factors:
        try:
            answers.append(index.search(index.question(factor, outcome), _EACH))
        except RetrievalError:
            continue
    chosen: list[Evidence] = spread(answers, MAX_PASSAGES)
    names = tuple(harmless(concept.name) for concept in problems[:MOST_PROBLEMS])
    return Knowledge(names, passages(chosen))


def _problems(text: str, index: KnowledgeIndex) -> Iterator[Concept]:
    """Yields what the patient has or had by the text: not what is denied, possible, planned, or a relative's."""
    context = TextContext(text)
    for linked in index.link_text(text):
        if linked.start is None or linked.end is None or not is_finding(linked.concept):
            continue
        said = context.of(linked.start, linked.end)
        theirs = said.polarity is Polarity.PRESENT and said.experiencer is Experiencer.PATIENT
        if theirs and said.temporality is not Temporality.HYPOTHETICAL:
            yield linked.concept
