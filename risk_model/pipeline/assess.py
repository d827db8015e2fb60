"""The pipeline for one patient and one task: read the notes, estimate, retrieve literature; returns one frozen
Assessment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from time import monotonic, perf_counter

from fhir_mapping import PatientRecord
from knowledge_index import Evidence, KnowledgeIndex, LiteratureSubject, Query, spread
from risk_model.core.errors import UnknownTaskError
from risk_model.core.tasks import TASKS
from risk_model.core.values import Assessment, LiteratureQuestion, NoteFindings
from risk_model.first_stage.patient_opinions import OpinionSource
from risk_model.models.estimator import RiskModel, shipped_folder
from risk_model.notes.literature import outcome_of
from risk_model.notes.rule_reader import NoteReader, RuleNoteReader
from risk_model.pipeline.literature_factors import PatientFactors, factors_behind, factors_of_patient, fits
from risk_model.prompts.opinion import Opinions

NoteReaderWrapper = Callable[[RuleNoteReader], NoteReader]
OpinionSourceFactory = Callable[[RiskModel], OpinionSource]
"""Opens the source of opinions for a model whose first stage is a language model. Raises ModelArtifactError if that
language model is not the one the model was trained with."""
MAX_QUERIES = 6
"""Factors with literature that are searched for a patient, and factors looked at before that."""
MAX_FACTORS = 16
MAX_EVIDENCE = 5
PER_QUERY = 3
PER_QUERY_SEEN = 24
"""Articles about a subject that are read; those about other patients are left out."""
REMEMBERED_ANSWERS = 2048
_SHARE_OF_NOTES = 0.5


class Pipeline:
    """Pipeline(index, reader, models).assess(record, "readmission_30d") -> Assessment

    Pipeline.shipped() uses the starter index, the rule reader and the shipped models.
    """

    def __init__(
        self,
        index: KnowledgeIndex,
        reader: NoteReader,
        models: Mapping[str, RiskModel],
        wrap: NoteReaderWrapper | None = None,
        opining: Mapping[str, OpinionSource] | None = None,
    ) -> None:
        self._wrap = wrap
        self._opining = dict(opining or {})
        self.index = index
        self.reader = reader
        self.models = dict(models)
        # An open index does not change and queries repeat: a chart opened again gives the same queries, and patients
        # often share problems.
        self._retrieve = lru_cache(maxsize=REMEMBERED_ANSWERS)(index.retrieve)

    @classmethod
    def shipped(
        cls,
        index: Path | None = None,
        models: Path | None = None,
        wrap: NoteReaderWrapper | None = None,
        listen: OpinionSourceFactory | None = None,
    ) -> Pipeline:
        """The embedded defaults; `index` and `models` replace the starter index and the folder of shipped models,
        `wrap` puts another note reader over the rules, and `listen` opens the sources of opinions for first stages that
        are language models.

        Raises ArtifactError or ModelArtifactError if a file is missing or altered.
        """
        opened = KnowledgeIndex.open_starter() if index is None else KnowledgeIndex.open(index)
        folders = {task: shipped_folder(task) if models is None else models / task for task in TASKS}
        opened_models = {task: RiskModel.open(path) for task, path in folders.items()}
        reader = _reader(opened, opened_models.values(), wrap)
        return cls(opened, reader, opened_models, wrap, _listening(opened_models, listen))

    @classmethod
    def with_model(
        cls, model: RiskModel, wrap: NoteReaderWrapper | None = None, listen: OpinionSourceFactory | None = None
    ) -> Pipeline:
        """A pipeline with one local model, the starter index and the rule reader."""
        opened, models = KnowledgeIndex.open_starter(), {model.task: model}
        return cls(opened, _reader(opened, [model], wrap), models, wrap, _listening(models, listen))

    def only(self, tasks: Collection[str]) -> Pipeline:
        """This pipeline with the models of these tasks alone, and the same cache."""
        one = copy(self)
        one.models = {task: model for task, model in self.models.items() if task in tasks}
        return one

    def refreshed(self) -> Pipeline:
        """Returns this pipeline, or a new one with the same models if the index folder holds a newer generation. The
        new one starts with an empty cache; requests that use the old one finish with it.

        Raises ArtifactError if the new generation is damaged.
        """
        index = self.index.refreshed()
        if index is self.index:
            return self
        ours = self._wrap is not None or isinstance(self.reader, RuleNoteReader)
        reader = _reader(index, self.models.values(), self._wrap) if ours else self.reader
        return Pipeline(index, reader, self.models, self._wrap, self._opining)

    def by_rules(self) -> Pipeline:
        """Returns the same index and models with notes read by rules only, for patients whose notes no language model
        may read."""
        return Pipeline(self.index, _reader(self.index, self.models.values()), self.models)

    def assess(self, record: PatientRecord, task: str, deadline: float | None = None) -> Assessment:
        """Returns everything behind a card. An abstaining model still gets its comparators, findings and evidence.

        Notes get half of the time until `deadline` (of `time.monotonic()`), and after it no more literature is
        retrieved; `left_out` then says so.
        """
        if task not in self.models:
            raise UnknownTaskError(task, tuple(self.models))
        clock = _Clock()
        now = monotonic()
        until = None if deadline is None else now + _SHARE_OF_NOTES * (deadline - now)
        findings = self.reader.read(record.notes(), deadline=until)
        clock.lap("read notes")
        model = self.models[task]
        # A model trained with evidence gets what is retrieved before there are drivers to search for.
        before = self.evidence_for(record, findings, task) if model.reads_evidence else ()
        estimate = model.estimate(record, findings, before, self.opinions(record, task))
        clock.lap("estimate")
        factors = factors_of_patient(record, findings, estimate.drivers, self.index)
        evidence, asked, cut = self._evidence(factors, task, deadline)
        clock.lap("retrieve evidence")
        withheld = sum(question.withheld for question in asked)
        unread = any(note.reason == "not-in-time" for note in findings.not_read)
        left_out = (*(("notes",) if unread else ()), *(("literature",) if cut else ()))
        return Assessment(estimate, findings, evidence, withheld, clock.laps, left_out, asked, factors.own)

    def opinions(self, record: PatientRecord, task: str) -> Opinions | None:
        """Returns what the language model in the first stage of a task's model says of the notes; None if there is
        none."""
        return self._opining[task].read(record.notes(), self.index) if task in self._opining else None

    def evidence_for(self, record: PatientRecord, findings: NoteFindings, task: str) -> tuple[Evidence, ...]:
        """Returns the evidence for this patient's problems before there is an estimate."""
        return self._evidence(factors_of_patient(record, findings, (), self.index), task, None)[0]

    def evidence_on(self, concept: str, task: str, own: Collection[str] | None = None) -> tuple[Evidence, ...]:
        """Returns the literature on an input of a model, a score or a group of diagnoses, and on a task's outcome.

        `own` are the patient's factors (`Assessment.factors`): only papers about such patients are returned, and of a
        group only those about the patient's own diseases or the group as a whole. None if the patient is unknown.
        """
        found: dict[str, Evidence] = {}
        for subject in self.subjects_of(concept, task, own):
            found |= {item.pmid: item for item in self._on(subject, own)[0] if item.pmid not in found}
        return tuple(sorted(found.values(), key=lambda item: item.remoteness))

    def subjects_of(self, concept: str, task: str, own: Collection[str] | None = None) -> tuple[LiteratureSubject, ...]:
        """Returns what the literature on an input has to be about: its factors, each with the task's outcome."""
        outcome = outcome_of(task, self.index)
        return tuple(LiteratureSubject(factor, outcome) for factor in factors_behind(concept, own))

    def _evidence(
        self, patient: PatientFactors, task: str, deadline: float | None
    ) -> tuple[tuple[Evidence, ...], tuple[LiteratureQuestion, ...], bool]:
        """One query for each factor; returns articles that cover each factor with the least redundancy.

        Articles that observe a factor itself come before those that have it as one variable of many.
        """
        answers: list[Sequence[Evidence]] = []
        asked: list[LiteratureQuestion] = []
        outcome = outcome_of(task, self.index)
        for factor in patient.ordered[:MAX_FACTORS]:
            if sum(bool(answer) for answer in answers) >= MAX_QUERIES:
                break
            if deadline is not None and monotonic() > deadline:
                return _shown(answers), tuple(asked), True
            subject = LiteratureSubject(factor, outcome)
            near, withheld = self._on(subject, patient.own)
            answers.append(near)
            pmids = tuple(item.pmid for item in near)
            gap = "" if near else subject.gap_in_words()
            asked.append(LiteratureQuestion(self._question(subject).text, factor.label, pmids, withheld, gap))
        return _shown(answers), tuple(asked), False

    def _on(self, subject: LiteratureSubject, own: Collection[str] | None) -> tuple[tuple[Evidence, ...], int]:
        """Returns the best articles about a factor and an outcome in such patients, at most PER_QUERY; and the number
        of others that were too weak to be shown.

        `own` is None if the patient's factors are unknown: then the population does not matter.
        """
        found = self._retrieve(self._question(subject), k=PER_QUERY_SEEN)
        fitting = [item for item in found.evidence if fits(item, subject.factor, own)][:PER_QUERY]
        return tuple(fitting), min(PER_QUERY - len(fitting), found.withheld)

    def _question(self, subject: LiteratureSubject) -> Query:
        return self.index.question(subject.factor, subject.outcome)


def _shown(answers: Iterable[Sequence[Evidence]]) -> tuple[Evidence, ...]:
    """Returns the articles to show of several answers, in their order; of each answer only the most direct ones, and of
    articles with many variables one for each patient."""
    direct = [[item for item in answer if item.remoteness == 0] for answer in answers]
    indirect = [answer[:1] for answer in answers if answer and answer[0].remoteness]
    first = spread(direct, MAX_EVIDENCE)
    known = {item.pmid for item in first}
    rest = [item for item in spread(indirect, MAX_EVIDENCE) if item.pmid not in known]
    return (*first, *rest[: 1 if first else 2])[:MAX_EVIDENCE]


def _reader(index: KnowledgeIndex, models: Iterable[RiskModel], wrap: NoteReaderWrapper | None = None) -> NoteReader:
    """Returns the rule reader, or the reader that wraps it. Embeddings, its slow part, and values are computed only if
    a model needs them."""
    asked = list(models)
    embed, values = any(model.embeds_notes for model in asked), any(model.reads_values for model in asked)
    rules = RuleNoteReader(index, embed, values)
    return rules if wrap is None else wrap(rules)


def _listening(models: Mapping[str, RiskModel], listen: OpinionSourceFactory | None) -> dict[str, OpinionSource]:
    return {} if listen is None else {task: listen(model) for task, model in models.items() if model.asks is not None}


class _Clock:
    def __init__(self) -> None:
        self._last = perf_counter()
        self.laps: tuple[tuple[str, float], ...] = ()

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.laps = (*self.laps, (name, round((now - self._last) * 1000, 2)))
        self._last = now
