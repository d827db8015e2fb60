"""Opinions of a first stage's language model that are already there; what is missing is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_mapping import Note
from knowledge_index import KnowledgeIndex
from risk_model.core.tasks import Task
from risk_model.first_stage.patient_opinions import patient_prompts
from risk_model.llm_reader.deferred_reader import AnswerStore
from risk_model.prompts.opinion import Opinion, Opinions
from risk_model.prompts.risk_prompt import RiskPrompt, key_of


class DeferredOpinions:
    """DeferredOpinions(fingerprint, task, answers).read(notes) -> Opinions: those there are, at once (see
    `patient_opinions`)
    """

    def __init__(
        self, fingerprint: str, task: str | Task, answers: AnswerStore[RiskPrompt, Opinion], *, evidence: bool = False
    ) -> None:
        self._fingerprint = fingerprint
        self._task = task
        self._answers = answers
        self._evidence = evidence

    def read(self, notes: Sequence[Note], index: KnowledgeIndex | None = None) -> Opinions:
        prompts = patient_prompts(notes, self._task, index if self._evidence else None)
        keyed = {key_of(self._fingerprint, prompt): prompt for prompt in prompts}
        known = self._answers.get(list(keyed)) if keyed else {}
        wanted = {key: prompt for key, prompt in keyed.items() if key not in known}
        if wanted:
            self._answers.ask(wanted)
        return Opinions(tuple(known[key] for key in keyed if key in known), waiting=len(wanted))
