"""The frozen values of risk_model. Results follow FHIR RiskAssessment, metrics TRIPOD+AI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from knowledge_index import Evidence, Experiencer, Polarity, Temporality
from risk_model.core.tasks import Task, task_of


class Abnormality(StrEnum):
    """Where a value lies beside the normal range for age and sex (`risk_model.features.normal_ranges`)."""

    LOW = "low"
    HIGH = "high"
    NORMAL = "normal"


class Agreement(StrEnum):
    """Whether an estimate and the best-fitting established score agree (`risk_model.scores.agreement`)."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNKNOWN = "unknown"


class LevelPolicy(StrEnum):
    """Which reading decides the level of a card where estimate and score disagree."""

    CAUTIOUS = "cautious"
    """The higher of the estimate and the lower end of the score's published risk."""
    ESTIMATE = "estimate"
    """The estimate alone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a note states. `quote` equals `note.text[start:end]`: there are no findings without a quote."""

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

    @property
    def counts(self) -> bool:
        """Whether it is present, now, and the patient's own: what a card shows of notes."""
        return (
            self.polarity is Polarity.PRESENT
            and self.temporality is Temporality.CURRENT
            and self.experiencer is Experiencer.PATIENT
        )


@dataclass(frozen=True, slots=True)
class NoteValue:
    """A measured value or a graded statement in a note. `quote` equals `note.text[start:end]`.

    `value` is a number in `unit`, 1 or 0 for a state such as mechanical ventilation, and None if the note only grades:
    then `grade` is from -2 (severely low) through 0 (normal, or denied) to 2 (severely high).
    """

    concept: str
    value: float | None
    unit: str | None
    grade: int | None
    polarity: Polarity
    temporality: Temporality
    experiencer: Experiencer
    time: datetime | None
    """Time of the first note that states it; None if unknown."""
    earlier: bool
    """The note itself places it before others of the same sentence: `1.2` in `rose from 1.2 to 3.4`."""
    note_source: str
    quote: str
    start: int
    end: int
    section: str | None = None
    unit_assumed: bool = False
    """The note gives no unit: the number is taken to be in the concept's own unit if no other is plausible."""

    @property
    def counts(self) -> bool:
        """Whether it is about this patient now."""
        return self.temporality is Temporality.CURRENT and self.experiencer is Experiencer.PATIENT


@dataclass(frozen=True, slots=True)
class UnreadNote:
    """A note that was not read, or with `part` not to its end. `reason`: `not-in-time`, `more-notes-than-read`,
    `text-cut`, `more-mentions-than-read`, `language-fr` (an ISO
    639-1 code), or `values-de` where only findings are read."""

    source: str
    reason: str
    part: bool = False


_OLDER = "more-notes-than-read"
_UNREAD = {
    "not-in-time": "the time was up",
    _OLDER: "older than the newest ones read",
    "text-cut": "too long",
    "more-mentions-than-read": "more findings than are read of one note",
}


def _unread_reason(code: str) -> str:
    if code.startswith("values-"):
        return f"values are not read in this language ({code.removeprefix('values-')}), findings are"
    return _UNREAD.get(code) or f"written in a language that is not read ({code.removeprefix('language-')})"


@dataclass(frozen=True, slots=True)
class NoteFindings:
    """Findings read from notes. `embedding` has shape (384,) float32, L2-normalised, or is None if there was no
    text."""

    findings: tuple[Finding, ...]
    embedding: NDArray[np.float32] | None
    reader: str
    notes_read: int
    notes_unreadable: int
    unanchored_dropped: int = 0
    values: tuple[NoteValue, ...] = ()
    """Measured values and graded statements, in the order of the notes."""
    language_notes: int = 0
    """Notes read by a language model; the rules read the others."""
    language_failed: int = 0
    """Notes for which a language model gave no usable answer."""
    waiting: int = 0
    """Notes that a language model has yet to read; until then the rules read them."""
    cited: tuple[str, ...] = ()
    """PMIDs of the passages that a language model cited, from those in its prompt."""
    cited_dropped: int = 0
    not_read: tuple[UnreadNote, ...] = ()

    def unread_in_words(self, *, older: bool = True) -> tuple[str, ...]:
        """Returns a line for each reason for which notes were not read, or not to their end; without `older` none for
        notes that are older than those read."""
        counted = Counter((note.reason, note.part) for note in self.not_read if older or note.reason != _OLDER)
        return tuple(
            f"{count} note{'s' if count > 1 else ''} not read{' to the end' if part else ''}: {_unread_reason(reason)}"
            for (reason, part), count in counted.items()
        )


@dataclass(frozen=True, slots=True)
class Driver:
    """A signed contribution to this estimate, in log-odds, for one clinical concept.

    A measured value raises the risk or is no driver: contributions are against a patient whose values are normal.
    """

    concept: str
    label: str
    value: str
    """In words, with its unit."""
    contribution: float
    modifiable: bool
    sources: tuple[str, ...] = ()
    abnormal: Abnormality | None = None
    """None where there is no normal range: age, diagnoses, use of care."""
    number: float | None = None
    """The value that `value` is about, in `unit`; None for anything but a number."""
    unit: str | None = None
    """UCUM unit of `number`; None for a number without one."""

    @property
    def direction(self) -> str:
        """Returns `raises` or `lowers`."""
        return "raises" if self.contribution > 0 else "lowers"


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The model's estimate with one modifiable concept at a typical value: an association, not a causal effect."""

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
    """An input of the model that was not available. `reason` is the code from fhir_mapping."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """A clinical score. If inputs are missing it is a range `low`..`high`, never a number that assumes normal values.

    `published_risk` is the range of published probabilities of `published_outcome` from `low` to `high` points; None if
    no verified publication gives one for both ends.
    """

    name: str
    low: int
    high: int
    maximum: int
    band: str | None
    missing: tuple[str, ...]
    inputs: tuple[tuple[str, str, int], ...]
    """(input, value in words, points) for every input that is known."""
    source: str = ""
    published_risk: tuple[float, float] | None = None
    published_outcome: str = ""
    """What the published risk is about, in words; it need not be the outcome of the estimate beside it."""

    @property
    def complete(self) -> bool:
        return not self.missing

    @property
    def expected_risk(self) -> float | None:
        """Returns the published risk if it is a single number."""
        risk = self.published_risk
        return risk[0] if risk is not None and self.complete and risk[0] == risk[1] else None

    def in_words(self) -> str:
        points = str(self.low) if self.low == self.high else f"{self.low}–{self.high}"
        return f"{points} of {self.maximum}"


@dataclass(frozen=True, slots=True)
class Abstention:
    """The reason why there is no probability. `code` is stable; `reason` is for the clinician."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class RiskEstimate:
    """The result for one patient, task and prediction time: either a probability or an abstention, never a default."""

    task: str
    subject_id: str
    prediction_time: datetime
    probability: float | None
    interval: tuple[float, float] | None
    """90 % interval: the outcome rates to expect among groups of patients with such an estimate."""
    baseline: float | None
    """Rate of the outcome in the training population."""
    drivers: tuple[Driver, ...]
    comparators: tuple[ScoreResult, ...]
    gaps: tuple[DataGap, ...]
    abstention: Abstention | None
    model_id: str
    model_version: str
    stay: str | None = None
    prediction_set: tuple[bool, ...] | None = None
    """Outcomes that cannot be ruled out at 90 % confidence; None if the model has no conformal thresholds."""
    counterfactuals: tuple[Counterfactual, ...] = ()
    cautions: tuple[str, ...] = ()
    """Reasons to read this estimate with caution, in words."""
    question: Task | None = None
    """The task, if it is none of the service's or has another label definition."""
    anchor: float | None = None
    """If a language model read notes: the probability without any note, otherwise None. It decides the level of the
    card, and `probability` stays within a fixed range around it, whatever the language model said."""
    reads_notes: bool = False
    """Whether the model has inputs from notes."""
    inputs: tuple[float, ...] = ()
    """The model's inputs in the order of its manifest, NaN for unknown: enough to recompute the probability."""
    reasons: tuple[str, ...] = ()
    """What contributes most to a first stage's estimate from notes, in words; empty if the model has no first stage.
    For a language model (`voice`) they are sentences of the notes."""
    reference: float | None = None
    """Probability of the patient's reference: the same patient with every abnormal value at the nearest normal one."""
    contributions: tuple[tuple[str, float], ...] = ()
    """(concept, log-odds) of everything between `reference` and the model's probability, drivers and smaller ones:
    their sum is exactly the difference, before a bound on what a language model read."""
    voice: StageVoice | None = None
    """The language model whose own estimate is an input, if there is one, and whether it has answered."""

    def __post_init__(self) -> None:
        if (self.probability is None) == (self.abstention is None):
            raise ValueError("an estimate holds either a probability or an abstention")

    @property
    def asked(self) -> Task:
        """The task. Raises UnknownTaskError if neither the estimate nor the service defines it."""
        return self.question or task_of(self.task)

    @property
    def decisive(self) -> float | None:
        """The probability that decides the level; a language model cannot change it."""
        return self.probability if self.anchor is None else self.anchor


@dataclass(frozen=True, slots=True)
class StageVoice:
    """The language model whose own estimate is an input, and the number of passages it has not answered for.

    While there are such passages, its estimate is unknown. `waiting`: not yet asked; `failed`: no usable answer.

    >>> StageVoice("/models/Qwen3-8B+/adapters/discharge", waiting=2).in_words([])
    'The language model discharge has not read 2 passages of the notes yet: its own estimate is not part of the number.'
    """

    model: str
    waiting: int = 0
    failed: int = 0

    def in_words(self, reasons: Sequence[str]) -> str:
        """Returns its part in this estimate, in words; empty if it was asked about nothing. `reasons` as they are
        shown."""
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
    """A query to the literature index: `concept` is the factor it is about, `pmids` the articles about factor and
    outcome.

    `withheld` counts articles about both that were too weak; `gap` is a sentence if there is none to show.
    """

    text: str
    concept: str
    pmids: tuple[str, ...]
    withheld: int
    gap: str = ""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything behind a card: the estimate, the findings in notes and the literature for this patient."""

    estimate: RiskEstimate
    findings: NoteFindings
    evidence: tuple[Evidence, ...]
    evidence_withheld: int = 0
    """Passages that were retrieved and not shown because they were too weak."""
    timings: tuple[tuple[str, float], ...] = ()
    """(step, milliseconds) in the order they ran."""
    left_out: tuple[str, ...] = ()
    """Parts that were not finished before the deadline."""
    asked: tuple[LiteratureQuestion, ...] = ()
    """The queries to the literature index, in order."""
    factors: tuple[str, ...] = ()
    """Names of the patient's own factors in `knowledge_index.vocabulary`: diagnoses and findings."""

    @property
    def waits(self) -> bool:
        """Whether a language model has yet to answer."""
        voice = self.estimate.voice
        return bool(self.findings.waiting) or (voice is not None and bool(voice.waiting))
