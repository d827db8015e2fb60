"""The frozen values of the model room. Results follow FHIR RiskAssessment, metrics TRIPOD+AI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from knowledge_index import Evidence
from risk_model.core.tasks import Task, task_of


class Polarity(StrEnum):
    PRESENT = "present"
    ABSENT = "absent"
    UNCERTAIN = "uncertain"


class Temporality(StrEnum):
    CURRENT = "current"
    HISTORICAL = "historical"
    HYPOTHETICAL = "hypothetical"


class Experiencer(StrEnum):
    PATIENT = "patient"
    FAMILY = "family"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a note says. `quote` equals `note.text[start:end]`: a finding that is not anchored does not exist."""

    concept_ui: str
    name: str
    polarity: Polarity
    temporality: Temporality
    experiencer: Experiencer
    note_source: str
    quote: str
    start: int
    end: int
    section: str | None = None


@dataclass(frozen=True, slots=True)
class NoteValue:
    """A measured value or a graded statement that a note makes. `quote` equals `note.text[start:end]`.

    `value` is a number in `unit`, 1 or 0 for a state such as mechanical ventilation, and None where the note only
    grades: then `grade` runs from -2 (severely low) through 0 (said to be normal, or denied) to 2 (severely high).
    """

    concept: str
    value: float | None
    unit: str | None
    grade: int | None
    polarity: Polarity
    temporality: Temporality
    experiencer: Experiencer
    time: datetime | None
    """When the note that first said it was written; None where that is not known."""
    earlier: bool
    """The note itself puts it before others of the same sentence: `1.2` in `rose from 1.2 to 3.4`."""
    note_source: str
    quote: str
    start: int
    end: int
    section: str | None = None
    unit_assumed: bool = False
    """No unit stood beside the number: it is read in the concept's own where it can be no other."""

    @property
    def counts(self) -> bool:
        """Whether it is about this patient now."""
        return self.temporality is Temporality.CURRENT and self.experiencer is Experiencer.PATIENT


@dataclass(frozen=True, slots=True)
class NoteFindings:
    """What stage 1 read. `embedding` has shape (384,) float32, L2-normalised, or is None when there was no text."""

    findings: tuple[Finding, ...]
    embedding: NDArray[np.float32] | None
    reader: str
    notes_read: int
    notes_unreadable: int
    unanchored_dropped: int = 0
    values: tuple[NoteValue, ...] = ()
    """Measured values and graded statements, in the order of the notes."""
    language_notes: int = 0
    """Notes that a language model read; the rules read the others."""
    language_failed: int = 0
    """Notes a language model was asked about and gave no usable answer for."""
    waiting: int = 0
    """Notes that a language model has yet to read; the rules read them meanwhile."""
    cited: tuple[str, ...] = ()
    """PMIDs of the passages that a language model says it used, each one it was given."""
    cited_dropped: int = 0


@dataclass(frozen=True, slots=True)
class Driver:
    """A signed contribution to this estimate, in log-odds, grouped into one clinical concept and put in words."""

    concept: str
    label: str
    value: str
    contribution: float
    modifiable: bool
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What the model would say were one modifiable concept as usual. An association it learned, never a promise."""

    concept: str
    label: str
    value: str
    instead: str
    probability: float

    def in_words(self) -> str:
        return (
            f"With {self.label} {self.instead} instead of {self.value} the model would say "
            f"{100 * self.probability:.0f} %: an association among its patients, not an effect to be promised."
        )


@dataclass(frozen=True, slots=True)
class DataGap:
    """Something the estimate would have used and did not have. `reason` is the mapper's code."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """A clinical score. With inputs missing it is a range `low`..`high`, never a number that assumes normal.

    `expected_risk` is the published risk for exactly this score and outcome as a probability, when its paper gives one
    and no input is missing.
    """

    name: str
    low: int
    high: int
    maximum: int
    band: str | None
    missing: tuple[str, ...]
    inputs: tuple[tuple[str, str, int], ...]
    """(input, value in words, points) for every input that is known."""
    expected_risk: float | None = None
    source: str = ""

    @property
    def complete(self) -> bool:
        return not self.missing

    def in_words(self) -> str:
        points = str(self.low) if self.low == self.high else f"{self.low}–{self.high}"
        return f"{points} of {self.maximum}"


@dataclass(frozen=True, slots=True)
class Abstention:
    """Why no probability is given. `code` is stable; `reason` is for the clinician."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class RiskEstimate:
    """The answer for one patient, task and moment: either a probability or an abstention, never a silent default."""

    task: str
    subject_id: str
    prediction_time: datetime
    probability: float | None
    interval: tuple[float, float] | None
    """90 % interval: rates to expect among groups of patients with such an estimate."""
    baseline: float | None
    """Rate of the outcome in the population the model was fitted on."""
    drivers: tuple[Driver, ...]
    comparators: tuple[ScoreResult, ...]
    gaps: tuple[DataGap, ...]
    abstention: Abstention | None
    model_id: str
    model_version: str
    stay: str | None = None
    prediction_set: tuple[bool, ...] | None = None
    """Outcomes that cannot be ruled out at 90 % confidence; None where the model was not calibrated for it."""
    counterfactuals: tuple[Counterfactual, ...] = ()
    cautions: tuple[str, ...] = ()
    """Reasons to read this estimate with more care than others, in words."""
    question: Task | None = None
    """What was asked, where it is none of the service's own tasks or another label definition of one."""
    anchor: float | None = None
    """Where a language model read notes: the probability without any note. The level of a card is decided by it, and
    `probability` stays within a bound of it, whatever the language model said. None where none read."""
    reads_notes: bool = False
    """Whether what notes say is among the model's inputs."""
    inputs: tuple[float, ...] = ()
    """What the model was given, in the order of its manifest, NaN where unknown: enough to replay the probability."""
    reasons: tuple[str, ...] = ()
    """What weighs most in a first stage's estimate from notes, in words; none where the model has no first stage. Of a
    language model (`voice`) they are sentences of the notes."""
    voice: StageVoice | None = None
    """Where the first stage is a language model's own estimate: who speaks, and whether it has."""

    def __post_init__(self) -> None:
        if (self.probability is None) == (self.abstention is None):
            raise ValueError("an estimate holds either a probability or an abstention")

    @property
    def asked(self) -> Task:
        """The question this answers. Raises UnknownTaskError where neither the estimate nor the service knows it."""
        return self.question or task_of(self.task)

    @property
    def decisive(self) -> float | None:
        """The probability that levels are decided by: no language model can move it."""
        return self.probability if self.anchor is None else self.anchor


@dataclass(frozen=True, slots=True)
class StageVoice:
    """The language model whose own estimate is among a model's inputs, and for how many passages it is still wanting.

    While any is, its estimate is unknown. `waiting`: not asked yet; `failed`: asked, without a usable answer.

    >>> StageVoice("/models/Qwen3-8B+/adapters/discharge", waiting=2).in_words([])
    'The language model discharge has not read 2 passages of the notes yet: its own estimate is not part of the number.'
    """

    model: str
    waiting: int = 0
    failed: int = 0

    def in_words(self, reasons: Sequence[str]) -> str:
        """What it has to do with this estimate; empty where it was asked about nothing. `reasons` as they are shown."""
        name = f"The language model {self.model.rpartition('#')[2].rpartition('/')[2]}"
        if self.waiting or self.failed:
            passages = "passage" if self.waiting + self.failed == 1 else "passages"
            what = "has not read" if self.waiting else "gave no usable answer for"
            yet = " yet" if self.waiting else ""
            wanting = f"{name} {what} {self.waiting + self.failed} {passages} of the notes{yet}"
            return f"{wanting}: its own estimate is not part of the number."
        quoted = "; ".join(f"“{reason}”" for reason in reasons)
        return f"{name} estimates from the notes too, and points to: {quoted}" if quoted else ""


@dataclass(frozen=True, slots=True)
class LiteratureQuestion:
    """One question put to the literature: `concept` is the problem it is about, `pmids` what came near enough to it.

    `withheld` counts passages that were found and are about something else.
    """

    text: str
    concept: str
    pmids: tuple[str, ...]
    withheld: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything behind a card: the estimate, what the notes said and the literature found for this patient."""

    estimate: RiskEstimate
    findings: NoteFindings
    evidence: tuple[Evidence, ...]
    evidence_withheld: int = 0
    """Passages retrieved and not shown because they were too weak."""
    timings: tuple[tuple[str, float], ...] = ()
    """(step, milliseconds) in the order they ran."""
    left_out: tuple[str, ...] = ()
    """Parts that were not finished when time was up."""
    asked: tuple[LiteratureQuestion, ...] = ()
    """The questions put to the literature, in their order."""

    @property
    def waits(self) -> bool:
        """Whether a language model has yet to read something that belongs to it."""
        voice = self.estimate.voice
        return bool(self.findings.waiting) or (voice is not None and bool(voice.waiting))
