"""Input blocks beside the structured record: note findings, and vectors that a first stage has to learn from.

Four kinds of block, by whether they may depend on outcomes:

- *Findings* are read without outcomes: `finding.<concept>` is 1 where a note says the patient has it now, 0 where notes
  were read and do not, unknown without notes. They are inputs like any other.
- *Values* that notes state (`note.<concept>.last|first|min|max`, `.grade`; see `note_inputs`) are read without
  outcomes too: unknown where no note says them, however many were read.
- *Noted inputs* (`noted.<input>`; see `note_measurements`) are structured inputs with those values among the
  measurements: a trend, a range or a ratio is then made of what the record and the notes have together.
- *Vectors* (an embedding of the record, of the notes, of the retrieved evidence) go through a first-stage head fitted
  on outcomes. A `Cohort` holds only raw vectors and has no place for a head's output, so stage 2 can learn from heads
  cross-fitted here and from nothing else: no row meets a head that saw its patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import FeatureVector, PatientRecord
from knowledge_index import Encoder, Evidence
from knowledge_index.encoders import encode_long, weighted_mean
from risk_model.core.values import Experiencer, NoteFindings, Polarity, Temporality
from risk_model.features import inputs
from risk_model.features.note_inputs import NOTE, note_inputs
from risk_model.features.note_measurements import NOTED, with_note_values
from risk_model.features.record_encoding import QUESTION, SERIALISERS
from risk_model.features.rubrics import RUBRIC_OF_NOTES, Rubric
from risk_model.prompts.opinion import Opinions

Vectors = NDArray[np.float32]
RECORDS = {"record": "codes", "record_markdown": "markdown"}
"""Sources that are the whole record, with the serialiser of each."""
SOURCES = (*RECORDS, "notes", "evidence")
FINDING = "finding."
ESTIMATED, REASONED = "stage1.logit", "rationale_embedding.logit"
"""Columns of a first stage that estimates from notes and says why (see `first_stage.rationale`)."""
_MOVED_BY_NOTES = frozenset({"notes_embedding.logit", "evidence_embedding.logit", ESTIMATED, REASONED})
RECORD_BUDGET = 2000
"""Tokens of the record's text that are embedded."""
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation tried for a head."""


@dataclass(frozen=True, slots=True)
class PatientReading:
    """What is known of one patient before stage 2: the record, and what stage 1 made of notes and literature."""

    record: PatientRecord
    vector: FeatureVector
    findings: NoteFindings | None = None
    evidence: tuple[Evidence, ...] = ()
    opinions: Opinions = field(default_factory=Opinions)
    """What a first stage's language model says of the notes."""

    @property
    def noted(self) -> PatientRecord:
        """The record with what its notes state among the measurements."""
        return self.record if self.findings is None else with_note_values(self.record, self.findings.values)


class Learned(Protocol):
    """A first stage that was fitted: its columns for any rows of the same cohort."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def columns(self, rows: NDArray[np.bool_]) -> Vectors:
        """Shape (rows, names)."""
        ...


class Block(Protocol):
    """A first stage that learns: it may look at the outcomes of `rows`, and of no other."""

    def learn(self, y: NDArray[np.float64], rows: NDArray[np.bool_], fold: NDArray[np.int64]) -> Learned: ...


@dataclass(frozen=True, slots=True)
class Head:
    """A first-stage logistic regression: one vector in, log-odds out (NaN for no vector)."""

    source: str
    weights: NDArray[np.float64]
    intercept: float

    @property
    def name(self) -> str:
        return f"{self.source}_embedding.logit"

    def __call__(self, vectors: Vectors) -> NDArray[np.float32]:
        """`vectors` of shape (rows, dimensions) to log-odds of shape (rows,)."""
        return np.asarray(vectors.astype(np.float64) @ self.weights + self.intercept, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "weights": self.weights.tolist(), "intercept": self.intercept}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], sources: Sequence[str] = SOURCES) -> Head:
        """Raises KeyError, TypeError or ValueError when `raw` is none of ours."""
        if raw["source"] not in sources:
            raise ValueError(f"unknown source {raw['source']!r}")
        return cls(raw["source"], np.asarray(raw["weights"], dtype=np.float64), float(raw["intercept"]))


@dataclass(frozen=True, slots=True)
class LearnedHead:
    """A head beside the vectors it reads."""

    head: Head
    vectors: Vectors

    @property
    def names(self) -> tuple[str, ...]:
        return (self.head.name,)

    def columns(self, rows: NDArray[np.bool_]) -> Vectors:
        return self.head(self.vectors[rows])[:, None]


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Raw vectors of one source for all rows of a cohort, shape (rows, dimensions), NaN where a row has none."""

    source: str
    vectors: Vectors

    def learn(self, y: NDArray[np.float64], rows: NDArray[np.bool_], fold: NDArray[np.int64]) -> LearnedHead:
        return LearnedHead(fit_head(self, y, rows, fold), self.vectors)


def fit_head(block: VectorBlock, y: NDArray[np.float64], rows: NDArray[np.bool_], fold: NDArray[np.int64]) -> Head:
    """A head fitted on `rows` that have a vector; its strength is chosen on one fold of them, then all are used."""
    from sklearn.linear_model import LogisticRegression

    usable = rows & np.isfinite(block.vectors[:, 0])
    if not usable.any() or y[usable].min() == y[usable].max():
        return Head(block.source, np.zeros(block.vectors.shape[1]), 0.0)
    held = usable & (fold == np.unique(fold[usable])[-1])
    rest = usable & ~held

    def loss(strength: float) -> float:
        fitted = LogisticRegression(C=strength, max_iter=2000).fit(block.vectors[rest], y[rest])
        p = np.clip(fitted.predict_proba(block.vectors[held])[:, 1], 1e-6, 1 - 1e-6)
        return float(-np.mean(y[held] * np.log(p) + (1 - y[held]) * np.log(1 - p)))

    can_validate = held.any() and rest.any() and y[rest].min() < y[rest].max()
    strength = min(STRENGTHS, key=loss) if can_validate else STRENGTHS[1]
    fitted = LogisticRegression(C=strength, max_iter=2000).fit(block.vectors[usable], y[usable])
    return Head(block.source, fitted.coef_[0].astype(np.float64), float(fitted.intercept_[0]))


@dataclass(frozen=True, slots=True)
class Fused:
    """Columns of stage 1, shape (rows, names), and the first stages for rows that took no part (of all `rows`)."""

    columns: NDArray[np.float32]
    names: tuple[str, ...]
    learned: tuple[Learned, ...]

    @property
    def heads(self) -> tuple[Head, ...]:
        return tuple(learned.head for learned in self.learned if isinstance(learned, LearnedHead))


def cross_fit(
    blocks: Sequence[Block], y: NDArray[np.float64], rows: NDArray[np.bool_], fold: NDArray[np.int64]
) -> Fused:
    """Every row inside `rows` gets the output of a first stage fitted on the other folds of `rows`; rows outside get
    one fitted on all of `rows`. Called once per outer fold, so that held-out patients are unknown to both stages."""
    wholes = [block.learn(y, rows, fold) for block in blocks]
    parts = []
    for block, whole in zip(blocks, wholes, strict=True):
        columns = np.full((len(y), len(whole.names)), np.nan, dtype=np.float32)
        columns[~rows] = whole.columns(~rows)
        for number in np.unique(fold[rows]):
            inside = rows & (fold == number)
            columns[inside] = block.learn(y, rows & (fold != number), fold).columns(inside)
        parts.append(columns)
    names = tuple(name for whole in wholes for name in whole.names)
    return Fused(np.hstack(parts), names, tuple(wholes))


def frequent_findings(readings: Sequence[NoteFindings], smallest_share: float = 0.02, most: int = 60) -> list[str]:
    """Names of finding inputs: concepts the notes of enough rows hold; chosen without looking at outcomes."""
    counts: dict[str, int] = {}
    for findings in readings:
        for name in _present(findings):
            counts[name] = counts.get(name, 0) + 1
    often = [name for name, count in counts.items() if count >= max(5, smallest_share * len(readings))]
    return [f"{FINDING}{name}" for name in sorted(often, key=lambda name: (-counts[name], name))[:most]]


def frequent_values(readings: Sequence[NoteFindings], smallest_share: float = 0.02, most: int = 200) -> list[str]:
    """Names of the inputs made of stated values that enough rows have; chosen without looking at outcomes."""
    counts = Counter(name for findings in readings for name in note_inputs(findings.values))
    often = [name for name, count in counts.items() if count >= max(5, smallest_share * len(readings))]
    return sorted(often, key=lambda name: (-counts[name], name))[:most]


def read_from_notes(name: str) -> bool:
    """Whether notes have a part in an input."""
    return name.startswith((FINDING, NOTE, NOTED, RUBRIC_OF_NOTES))


def moved_by_notes(name: str) -> bool:
    """Whether what a reader makes of notes can change an input: also by the literature that is asked for because of it.

    >>> moved_by_notes("finding.Sepsis"), moved_by_notes("evidence_embedding.logit"), moved_by_notes("lactate.max")
    (True, True, False)
    """
    return read_from_notes(name) or name in _MOVED_BY_NOTES


def without_notes(names: Sequence[str], rows: Vectors) -> Vectors:
    """Rows, shape (..., names), had no note been read: `noted.sodium.min` falls back on `sodium.min`, the rest is
    unknown."""
    places = {name: place for place, name in enumerate(names)}
    found = rows.copy()
    for place, name in enumerate(names):
        if moved_by_notes(name):
            alone = places.get(name.removeprefix(NOTED)) if name.startswith(NOTED) else None
            found[..., place] = np.nan if alone is None else rows[..., alone]
    return found


class FirstStage(Protocol):
    """A first stage at work: its columns for one patient, and its reasons in words."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the inputs it has from notes."""
        ...

    @property
    def wants_embedding(self) -> bool:
        """Whether notes have to be embedded for it."""
        ...

    def values(self, reading: PatientReading) -> Mapping[str, float]: ...

    def reasons(self, reading: PatientReading) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class RowSources:
    """What a row needs besides record and notes: heads with the encoder of their vectors, a rubric, a first stage.

    `encoder` is needed where a head reads the record or the evidence.
    """

    heads: tuple[Head, ...] = ()
    encoder: Encoder | None = None
    rubric: Rubric | None = None
    first_stage: FirstStage | None = None


NO_SOURCES = RowSources()


def row(reading: PatientReading, names: Sequence[str], sources: RowSources = NO_SOURCES) -> Vectors:
    """The model's row, shape (len(names),) float32: structured inputs, notes, rubric, and the columns of stage 1."""
    asked = set(names)
    values: dict[str, float] = note_values(reading.findings, names)
    for head in sources.heads:
        if head.name in asked:
            vector = vector_of(head.source, reading, sources.encoder, len(head.weights))
            values[head.name] = float(head(vector[None])[0])
    if sources.rubric is not None:
        answers = sources.rubric.row(reading.record, present_findings(reading.findings))
        values |= zip(sources.rubric.names, answers.tolist(), strict=True)
    if sources.first_stage is not None:
        values |= sources.first_stage.values(reading)
    values |= _noted(reading, [name for name in names if name.startswith(NOTED)])
    plain = [name for name in names if name not in values]
    values |= zip(plain, inputs.row(reading.record, plain, reading.vector).tolist(), strict=True)
    return np.array([values[name] for name in names], dtype=np.float32)


def _noted(reading: PatientReading, names: Sequence[str]) -> dict[str, float]:
    if not names:
        return {}
    record = reading.noted
    vector = reading.vector if record is reading.record else record.features()
    numbers = inputs.row(record, [name.removeprefix(NOTED) for name in names], vector)
    return dict(zip(names, numbers.tolist(), strict=True))


def note_values(findings: NoteFindings | None, names: Iterable[str]) -> dict[str, float]:
    """Those of `names` that are findings or values of notes; NaN where no note says."""
    present = present_findings(findings)
    stated = note_inputs(findings.values) if findings is not None else {}
    values = {name: stated.get(name, np.nan) for name in names if name.startswith(NOTE)}
    for name in names:
        if name.startswith(FINDING):
            values[name] = np.nan if present is None else float(name.removeprefix(FINDING) in present)
    return values


def present_findings(findings: NoteFindings | None) -> frozenset[str] | None:
    """Names of what notes say the patient has now; None where no note was read."""
    return _present(findings) if findings is not None and findings.notes_read else None


def vector_of(source: str, reading: PatientReading, encoder: Encoder | None, dimensions: int) -> Vectors:
    """One patient's vector of a source, shape (dimensions,); NaN where there is nothing to embed."""
    none = np.full(dimensions, np.nan, dtype=np.float32)
    if source == "notes":
        found = None if reading.findings is None else reading.findings.embedding
        return none if found is None else found
    if source in RECORDS:
        texts, instruction = [SERIALISERS[RECORDS[source]](reading.record, RECORD_BUDGET)], QUESTION
    else:
        texts, instruction = [item.passage for item in reading.evidence], None
    texts = [text for text in texts if text.strip()]
    if not texts:
        return none
    if encoder is None:
        raise ValueError(f"a head reads the {source}, so an encoder is needed")
    vectors = encode_long(encoder, texts, instruction)
    return weighted_mean(list(vectors), [1.0] * len(vectors))


def _present(findings: NoteFindings) -> frozenset[str]:
    return frozenset(
        finding.name
        for finding in findings.findings
        if finding.polarity is Polarity.PRESENT
        and finding.temporality is Temporality.CURRENT
        and finding.experiencer is Experiencer.PATIENT
    )
