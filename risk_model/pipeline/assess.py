"""The pipeline for one patient and one task: read the notes, estimate, retrieve literature; returns one frozen
Assessment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from time import monotonic, perf_counter

from fhir_mapping import PatientRecord
from fhir_mapping.terminology import diagnosis_table
from knowledge_index import Evidence, KnowledgeIndex, Query, spread
from risk_model.core.errors import UnknownTaskError
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D, TASKS
from risk_model.core.values import (
    Assessment,
    Driver,
    LiteratureQuestion,
    NoteFindings,
)
from risk_model.first_stage.patient_opinions import OpinionSource
from risk_model.models.estimator import RiskModel, shipped_folder
from risk_model.notes.rule_reader import NoteReader, RuleNoteReader
from risk_model.prompts.opinion import Opinions

NoteReaderWrapper = Callable[[RuleNoteReader], NoteReader]
OpinionSourceFactory = Callable[[RiskModel], OpinionSource]
"""Opens the source of opinions for a model whose first stage is a language model. Raises ModelArtifactError if that
language model is not the one the model was trained with."""
MAX_QUERIES = 6
MAX_EVIDENCE = 5
PER_QUERY = 3
# Retrieved per problem, to find PER_QUERY passages on the problem: passages on the outcome alone rank first and are
# dropped.
PER_QUERY_SEEN = 20
MAX_CONDITIONS = 40
REMEMBERED_ANSWERS = 2048
_SHARE_OF_NOTES = 0.5
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
# The outcome as search words and MeSH descriptors.
_OUTCOME = {
    IN_HOSPITAL_MORTALITY: ("hospital mortality", ("D017052",)),
    READMISSION_30D: ("hospital readmission", ("D010359",)),
}


@dataclass(frozen=True, slots=True)
class _Problem:
    """A concept of this patient to search the literature for, and its weight."""

    ui: str
    name: str
    weight: float


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
        young = estimate.abstention is not None and estimate.abstention.code == "too-young"
        # The literature index is about adults: nothing is retrieved for a child.
        asks = () if young else self._problems(record, findings, estimate.drivers)
        evidence, asked, cut = self._evidence(asks, task, deadline)
        clock.lap("retrieve evidence")
        withheld = sum(question.withheld for question in asked)
        unread = any(note.reason == "not-in-time" for note in findings.not_read)
        left_out = (*(("notes",) if unread else ()), *(("literature",) if cut else ()))
        return Assessment(estimate, findings, evidence, withheld, clock.laps, left_out, asked)

    def opinions(self, record: PatientRecord, task: str) -> Opinions | None:
        """Returns what the language model in the first stage of a task's model says of the notes; None if there is
        none."""
        return self._opining[task].read(record.notes()) if task in self._opining else None

    def evidence_for(self, record: PatientRecord, findings: NoteFindings, task: str) -> tuple[Evidence, ...]:
        """Returns the evidence for this patient's problems before there is an estimate."""
        return self._evidence(self._problems(record, findings, ()), task, None)[0]

    def evidence_on(self, words: Iterable[str], task: str) -> tuple[Evidence, ...]:
        """Returns the literature on topics named by their MeSH headings (or synonyms) and on a task's outcome.

        As strict as for a patient's problems: at most one step up or down the MeSH tree from the heading.
        """
        found: dict[str, Evidence] = {}
        for text in words:
            for linked in self.index.link_text(text)[:1]:
                problem = _Problem(linked.concept.ui, linked.concept.name, 1.0)
                found |= {item.pmid: item for item in self._on(problem, task)[0] if item.pmid not in found}
        return tuple(found.values())

    def _evidence(
        self, problems: Sequence[_Problem], task: str, deadline: float | None
    ) -> tuple[tuple[Evidence, ...], tuple[LiteratureQuestion, ...], bool]:
        """One short query per problem; returns passages that cover each problem with the least redundancy."""
        answers: list[Sequence[Evidence]] = []
        asked: list[LiteratureQuestion] = []
        cut = False
        for problem in problems[:MAX_QUERIES]:
            cut = deadline is not None and monotonic() > deadline
            if cut:
                break
            near, withheld = self._on(problem, task)
            answers.append(near)
            pmids = tuple(item.pmid for item in near)
            asked.append(LiteratureQuestion(_query(problem, task).text, problem.name, pmids, withheld))
        return tuple(spread(answers, MAX_EVIDENCE)), tuple(asked), cut

    def _on(self, problem: _Problem, task: str) -> tuple[tuple[Evidence, ...], int]:
        """Returns the best passages on a problem's own heading, at most PER_QUERY; and the number of free places that
        only passages on other topics, or weak ones, could have filled."""
        found = self._retrieve(_query(problem, task), k=PER_QUERY_SEEN)
        near = tuple(item for item in found.evidence if _near(item, problem))[:PER_QUERY]
        others = found.withheld + len(found.evidence) - len(near)
        return near, min(PER_QUERY - len(near), others)

    def _problems(
        self, record: PatientRecord, findings: NoteFindings, drivers: Sequence[Driver]
    ) -> tuple[_Problem, ...]:
        """Returns the patient's problems, the most relevant first: reasons of the stay, findings in notes, the problem
        list."""
        weights: dict[str, _Problem] = {}

        def add(ui: str, name: str, weight: float) -> None:
            known = weights.get(ui)
            weights[ui] = _Problem(ui, name, weight + (known.weight if known else 0.0))

        stay = record.current_stay
        for linked in self.index.link_codes((c.system, c.code, c.display) for c in (stay.reasons if stay else ())):
            add(linked.concept.ui, linked.concept.name, 3.0)
        for finding in findings.findings:
            if finding.counts:
                add(finding.concept_ui, finding.name, 1.0 if finding.section in _KEY_SECTIONS else 0.3)
        dated = [(c.recorded or c.onset or _LONG_AGO, c) for c in record.conditions if c.active]
        dated.sort(key=lambda item: (item[0], item[1].source), reverse=True)
        for _, condition in dated[:MAX_CONDITIONS]:
            for linked in self.index.link_codes((c.system, c.code, c.display) for c in condition.codings):
                add(linked.concept.ui, linked.concept.name, 1.0)
        groups = diagnosis_table().groups
        for driver in drivers:
            # Diagnoses only: "blood pressure" as a query finds papers on its measurement, not on this patient.
            if driver.contribution > 0 and driver.concept in groups:
                for linked in self.index.link_text(driver.label):
                    add(linked.concept.ui, linked.concept.name, min(2.0, 4 * driver.contribution))
        return tuple(sorted(weights.values(), key=lambda problem: (-problem.weight, problem.ui)))


def _reader(index: KnowledgeIndex, models: Iterable[RiskModel], wrap: NoteReaderWrapper | None = None) -> NoteReader:
    """Returns the rule reader, or the reader that wraps it. Embeddings, its slow part, and values are computed only if
    a model needs them."""
    asked = list(models)
    embed, values = any(model.embeds_notes for model in asked), any(model.reads_values for model in asked)
    rules = RuleNoteReader(index, embed, values)
    return rules if wrap is None else wrap(rules)


def _listening(models: Mapping[str, RiskModel], listen: OpinionSourceFactory | None) -> dict[str, OpinionSource]:
    return {} if listen is None else {task: listen(model) for task, model in models.items() if model.asks is not None}


_KEY_SECTIONS = frozenset({"assessment", "plan", "discharge_plan", "hospital_course", "chief_complaint"})


# Relations of the MeSH tree and of indexing keep the topic. Co-occurrence and citation may leave it.
_KEEPS_SUBJECT = frozenset({"heading of", "main heading of", "broader than", "narrower than"})


def _near(evidence: Evidence, problem: _Problem) -> bool:
    """Whether a passage is about this problem: reached from its heading, at most one step up or down the MeSH tree.

    A passage reached from the outcome alone ("hospital mortality") may be about any hospital stay.
    """
    steps = evidence.path
    from_problem = bool(steps) and steps[0].source == problem.name
    return from_problem and len(steps) <= 2 and all(step.relation in _KEEPS_SUBJECT for step in steps)


def _query(problem: _Problem, task: str) -> Query:
    """Returns the query `Heart Failure hospital readmission`, with both descriptors as seeds of the graph."""
    words, concepts = _OUTCOME.get(task, (task.replace("_", " "), ()))
    return Query(f"{problem.name} {words}", (problem.ui, *concepts))


class _Clock:
    def __init__(self) -> None:
        self._last = perf_counter()
        self.laps: tuple[tuple[str, float], ...] = ()

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.laps = (*self.laps, (name, round((now - self._last) * 1000, 2)))
        self._last = now
