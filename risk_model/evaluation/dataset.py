"""From a cohort folder to rows: inputs, outcomes, comparator scores and subgroups, each as of its prediction time."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from fhir_mapping import PatientRecord
from knowledge_index import Encoder, Evidence, KnowledgeIndex
from risk_model.cohorts.labelled_cohort import PATIENTS, CohortRow, LabelledCohort
from risk_model.core.errors import TrainingError
from risk_model.core.tasks import READMISSION_30D, TASKS
from risk_model.core.values import NoteFindings
from risk_model.features.generic_inputs import candidates, known_often
from risk_model.features.inputs import input_names
from risk_model.features.note_measurements import noted_names
from risk_model.features.rubrics import RUBRIC_OF_NOTES, Rubric
from risk_model.features.series_grid import series_grid
from risk_model.features.stay_medications import STAY_MEDICATIONS
from risk_model.first_stage import fusion
from risk_model.first_stage.fusion import PatientReading, VectorBlock, frequent_findings, frequent_values, vector_of
from risk_model.first_stage.patient_opinions import OpinionSource, windows_to_ask
from risk_model.first_stage.training_rows import TrainingRows, check_outcomes
from risk_model.models.conformal import AGE_BANDS, age_band
from risk_model.notes.rule_reader import NoteReader
from risk_model.prompts.note_prompt import Window
from risk_model.prompts.opinion import Opinions
from risk_model.scores.by_task import comparators

Progress = Callable[[int, int], None]
TRAINING = ("train", "validation")
_RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"


class EvidenceSource(Protocol):
    """Where evidence comes from before there is an estimate (`Pipeline.evidence_for`)."""

    def __call__(self, record: PatientRecord, findings: NoteFindings, task: str) -> tuple[Evidence, ...]: ...


@dataclass(frozen=True, slots=True)
class DatasetSources:
    """What stage 1 may use; None leaves a block out."""

    reader: NoteReader | None = None
    encoder: Encoder | None = None
    evidence: EvidenceSource | None = None
    record: str = "record"
    """Which of `fusion.RECORDS` the encoder is given."""
    rubric: Rubric | None = None
    opining: OpinionSource | None = None
    """Asks a first stage's language model about one patient's notes."""
    literature: KnowledgeIndex | None = None
    """Of the evidence that a first stage's language model is shown; None shows none."""

    def read(self, record: PatientRecord, task: str) -> PatientReading:
        findings = None if self.reader is None else self.reader.read(record.notes())
        asks = self.evidence is not None and findings is not None
        evidence = self.evidence(record, findings, task) if asks and self.evidence and findings else ()
        opinions = Opinions() if self.opining is None else self.opining.read(record.notes(), self.literature)
        return PatientReading(record, record.features(), findings, evidence, opinions)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What is reported of a row beside the model's answer: the established scores, age in years, sex."""

    scores: Mapping[str, float]
    """By name, the middle of the range with inputs missing."""
    age: float
    sex: str

    @classmethod
    def of(cls, reading: PatientReading, task: str) -> RowFacts:
        age = reading.vector.number("age.last")
        scores = {score.name: (score.low + score.high) / 2 for score in comparators(reading.record, task)}
        return cls(scores, np.nan if age is None else age, reading.vector.word("sex.last") or "")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows of a cohort in the order of its data; every array has one entry per row."""

    rows: tuple[CohortRow, ...]
    cohort: TrainingRows
    comparators: Mapping[str, NDArray[np.float64]]
    subgroups: Mapping[str, NDArray[np.bool_]]
    abstentions: tuple[str, ...]
    """Code of the model's abstention for each row, "" where it answers; all "" without a model."""
    windows: tuple[tuple[Window, ...], ...] = ()
    """Of each row what a language model is asked about (`language.opinions`), where the study was read for one."""
    series: NDArray[np.float32] | None = None
    """Measurements on a grid of time (`series_grid`), where the study was read with them."""


def read_training_dataset(
    labelled: LabelledCohort,
    task: str,
    sources: DatasetSources,
    progress: Progress = lambda _done, _all: None,
    *,
    windows: bool = False,
    series: bool = False,
) -> Dataset:
    """The training and validation rows with all inputs of the task, findings and vectors.

    A task without inputs chosen for it gets whatever its rows hold (`generic_inputs`). With `windows` the study also
    holds what a language model is to be asked about, with `series` the measurements on a grid of time.

    Raises TrainingError for a cohort of another task or without rows to train on.
    """
    if labelled.task != task:
        raise TrainingError(f"the cohort was built for the task {labelled.task}, not {task}")
    _check_rubric(sources, task)
    wanted = [row for row in labelled.rows if row.split in TRAINING]
    if not wanted:
        raise TrainingError("the cohort has no rows in its train split")
    # Before anything is read: a language model may take hours over the notes.
    check_outcomes(np.array([float(row.label) for row in wanted]), [row.person for row in wanted])
    rows, readings = [], []
    for split in TRAINING:
        for row, record in labelled.records(split):
            rows.append(row)
            readings.append(sources.read(record, task))
            progress(len(rows), len(wanted))
    names = [*input_names(task), *_more(task)] if task in TASKS else list(candidates(r.vector for r in readings))
    if sources.reader is not None:
        read = [r.findings for r in readings if r.findings is not None]
        stated = frequent_values(read)
        names += noted_names(names, stated) + frequent_findings(read) + stated
    if sources.rubric is not None:
        names += sources.rubric.names
    made = fusion.RowSources(rubric=sources.rubric)
    x = np.stack([fusion.row(reading, names, made) for reading in readings])
    if task not in TASKS:
        places = known_often(names, x)
        names, x = [names[place] for place in places], x[:, places]
    cohort = _cohort(task, names, x, rows)
    facts = [RowFacts.of(reading, task) for reading in readings]
    study = study_of(labelled, rows, replace(cohort, blocks=_blocks(readings, sources)), facts, [""] * len(rows))
    question, shown = labelled.asked.question, sources.literature
    asked = tuple(windows_to_ask(r.record.notes(), question, shown) for r in readings) if windows else ()
    return replace(study, windows=asked, series=series_grid(r.record for r in readings) if series else None)


def _more(task: str) -> tuple[str, ...]:
    """Returns inputs that a site's own data have and those behind the shipped model's curated list do not."""
    return STAY_MEDICATIONS if task == READMISSION_30D else ()


def _check_rubric(sources: DatasetSources, task: str) -> None:
    """Raises TrainingError where a rubric was written for another task, or asks about notes that are not read."""
    if sources.rubric is None:
        return
    if sources.rubric.task != task:
        raise TrainingError(f"the rubric was written for the task {sources.rubric.task}, not {task}")
    of_notes = [name for name in sources.rubric.names if name.startswith(RUBRIC_OF_NOTES)]
    if of_notes and sources.reader is None:
        asked = ", ".join(name.removeprefix(RUBRIC_OF_NOTES) for name in of_notes[:5])
        raise TrainingError(f"items of the rubric ask what notes say ({asked}), so --note-reader is needed")


def _cohort(task: str, names: Sequence[str], x: NDArray[np.float32], rows: Sequence[CohortRow]) -> TrainingRows:
    y = np.array([float(row.label) for row in rows])
    return TrainingRows(task, tuple(names), x, y, tuple(row.person for row in rows))


def _blocks(readings: Sequence[PatientReading], sources: DatasetSources) -> tuple[VectorBlock, ...]:
    """Raw vectors of every source there is; a source that no row has is left out."""
    wanted = [(sources.record, sources.encoder is not None), ("notes", sources.reader is not None)]
    wanted.append(("evidence", sources.evidence is not None and sources.encoder is not None))
    dimensions = 384 if sources.encoder is None else sources.encoder.dimensions
    blocks = []
    for source, use in wanted:
        if use:
            vectors = np.stack([_vector(source, reading, sources.encoder, dimensions) for reading in readings])
            if np.isfinite(vectors).any():
                blocks.append(VectorBlock(source, vectors))
    return tuple(blocks)


def _vector(source: str, reading: PatientReading, encoder: Encoder | None, dimensions: int) -> NDArray[np.float32]:
    found = reading.findings.embedding if source == "notes" and reading.findings is not None else None
    return vector_of(source, reading, encoder, dimensions if found is None else len(found))


def study_of(
    labelled: LabelledCohort,
    rows: Sequence[CohortRow],
    cohort: TrainingRows,
    facts: Sequence[RowFacts],
    codes: Sequence[str],
) -> Dataset:
    """Rows with their comparators and subgroups; `codes` are those of abstentions, "" where there is an answer."""
    races = recorded_races(labelled.folder)
    recorded = np.array([races.get(row.subject_id, "") for row in rows])
    ages, sexes = np.array([each.age for each in facts]), np.array([each.sex for each in facts])
    scores = [each.scores for each in facts]
    return Dataset(tuple(rows), cohort, _columns(scores), _subgroups(ages, sexes, recorded), tuple(codes))


def _columns(scores: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    """Each score as one number per row; NaN where none applies."""
    names = sorted({name for row in scores for name in row})
    return {name: np.array([row.get(name, np.nan) for row in scores]) for name in names}


def _subgroups(
    ages: NDArray[np.float64], sexes: NDArray[np.str_], races: NDArray[np.str_]
) -> dict[str, NDArray[np.bool_]]:
    bands = np.array([age_band(age) if np.isfinite(age) else "" for age in ages.tolist()])
    found = {"women": sexes == "female", "men": sexes == "male"}
    found |= {f"age {name}": bands == name for _, name in AGE_BANDS}
    found |= {f"recorded race: {name}": races == name for name in sorted(set(races.tolist()) - {""})}
    return {name: mask for name, mask in found.items() if mask.any()}


def recorded_races(folder: Path) -> dict[str, str]:
    """US Core race in words, by subject; used for subgroup tables and by no model."""
    found: dict[str, str] = {}
    with gzip.open(folder / PATIENTS) as stream:
        for line in stream:
            patient = orjson.loads(line)
            race = next((_race(r) for r in patient["resources"] if r.get("resourceType") == "Patient"), None)
            if race:
                found[patient["subject_id"]] = race
    return found


def _race(patient: Mapping[str, Any]) -> str | None:
    for extension in patient.get("extension") or ():
        if isinstance(extension, dict) and extension.get("url") == _RACE:
            inner = extension.get("extension") or ()
            return next((str(e.get("valueString")) for e in inner if e.get("url") == "text"), None)
    return None
