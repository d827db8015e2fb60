"""Examples for tuning and evaluating a note reader: a window of a note with the right answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import Note
from risk_model.core.values import Experiencer, Finding, NoteFindings, NoteValue, Polarity, Temporality
from risk_model.prompts.answers import MAX_FINDINGS, MAX_VALUES, AnswerFinding, AnswerValue, ReaderAnswer
from risk_model.prompts.compact_format import COMPACT, CompactPrompt, in_lines
from risk_model.prompts.note_prompt import Message, Prompt, Window

FIELDS = ("present", "absent", "family", "past", "value")
BOOTSTRAPS = 1000
_RELATIVE_ERROR = 0.02


@dataclass(frozen=True, slots=True)
class PromptAnswer:
    """A prompt with its right answer. The part `weighty` of the answer has as much weight in the loss as the rest."""

    messages: Sequence[Message]
    answer: str
    weighty: str = ""


class TuningExample(Protocol):
    """An example that a model can be tuned on."""

    @property
    def source(self) -> str:
        """The unit of splitting: all examples of one source are on the same side."""
        ...

    def prompt_answer(self, answers: str) -> PromptAnswer: ...

    def to_json(self) -> dict[str, Any]:
        """Returns the content that is hashed."""
        ...


@dataclass(frozen=True, slots=True)
class LabelledFinding:
    """A finding that the window names; `quote` begins at `start` of its text."""

    quote: str
    start: int
    concept_ui: str
    name: str
    polarity: Polarity
    temporality: Temporality
    experiencer: Experiencer

    @property
    def end(self) -> int:
        return self.start + len(self.quote)


@dataclass(frozen=True, slots=True)
class Stated:
    """A number the window gives for this patient: as it is written, and `value` in the concept's canonical unit."""

    quote: str
    start: int
    concept: str
    written: float
    unit: str
    value: float

    @property
    def end(self) -> int:
        return self.start + len(self.quote)


@dataclass(frozen=True, slots=True)
class ReaderExample:
    """A window's text with its label. `style` is the writing style."""

    text: str
    mentions: tuple[LabelledFinding, ...]
    stated: tuple[Stated, ...]
    style: str

    def answer(self) -> ReaderAnswer:
        """Returns the right answer."""
        findings = [
            AnswerFinding(m.quote, m.name, m.polarity, m.temporality, m.experiencer)
            for m in sorted(self.mentions, key=lambda m: m.start)
        ]
        values = [
            AnswerValue(s.quote, s.concept, s.written, s.unit)
            for s in sorted(self.stated, key=lambda s: (s.start, s.end))
        ]
        return ReaderAnswer(tuple(findings[:MAX_FINDINGS]), tuple(values[:MAX_VALUES]))

    @property
    def source(self) -> str:
        """The unit of splitting: all examples of one source are on the same side."""
        return self.style

    def prompt(self) -> Prompt:
        return Prompt(Window(self.text, 0, (), "other", "example"))

    def prompt_answer(self, answers: str) -> PromptAnswer:
        if answers == COMPACT:
            return PromptAnswer(CompactPrompt(self.prompt()).messages, in_lines(self.answer()))
        return PromptAnswer(self.prompt().messages, self.answer().to_text())

    def note(self, source: str) -> Note:
        """The window as a note of its own, for readers that take notes."""
        return Note(source, "Note", None, self.text, (), source, "read")

    def to_json(self) -> dict[str, Any]:
        """Returns the content that is hashed."""
        return {"text": self.text, "answer": self.answer().to_text(), "style": self.style}


def status(polarity: Polarity, temporality: Temporality, experiencer: Experiencer) -> str:
    """The one word that three judgements come down to.

    >>> status(Polarity.ABSENT, Temporality.CURRENT, Experiencer.PATIENT)
    'absent'
    """
    if experiencer is Experiencer.FAMILY:
        return "family"
    if polarity is not Polarity.PRESENT:
        return str(polarity)
    return {"current": "present", "historical": "past"}.get(str(temporality), "planned")


def scores(example: ReaderExample, read: NoteFindings) -> Counter[str]:
    """Counts `expected F`, `found F`, `read F`, `right F` of one example, by field F of FIELDS.

    A finding is right where its quote overlaps one that the example names, and what is made of it (present, absent, a
    relative's, past) is the same; a value where it is the same number in the canonical unit of the same concept. What
    is read as uncertain or planned is no claim about the patient, and is not counted.
    """
    counts: Counter[str] = Counter()
    expected = [(status(m.polarity, m.temporality, m.experiencer), m) for m in example.mentions]
    said = [(status(f.polarity, f.temporality, f.experiencer), f) for f in read.findings]
    for word, mention in expected:
        counts[f"expected {word}"] += 1
        counts[f"found {word}"] += any(word == other and _overlap(mention, finding) for other, finding in said)
    for word, finding in said:
        counts[f"read {word}"] += 1
        counts[f"right {word}"] += any(word == other and _overlap(mention, finding) for other, mention in expected)
    numbers = [value for value in read.values if value.counts and value.value is not None and value.unit is not None]
    for stated in example.stated:
        counts["expected value"] += 1
        counts["found value"] += any(_same(stated, value) for value in numbers)
    for value in numbers:
        counts["read value"] += 1
        counts["right value"] += any(_same(stated, value) for stated in example.stated)
    return counts


def summary(counted: Sequence[Counter[str]], seed: int = 0, fields: Sequence[str] = FIELDS) -> dict[str, Any]:
    """Precision, recall and F1 of each field and of all together, F1 with its interval over resampled examples."""
    whole = {field: (field,) for field in fields} | {"all": tuple(fields)}
    return {name: _rates(_table(counted, of), seed) for name, of in whole.items()}


def difference(
    ours: Sequence[Counter[str]], theirs: Sequence[Counter[str]], fields: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """How far our F1 over these fields lies above theirs, with its interval over the same resampled examples."""
    tables = _table(ours, fields), _table(theirs, fields)
    values = [_f1(*table.sum(axis=0).tolist()) for table in tables]
    one, other = (np.array(_drawn(table, seed)) for table in tables)
    return {"value": values[0] - values[1], "interval": np.percentile(one - other, [2.5, 97.5]).tolist()}


def _table(counted: Sequence[Counter[str]], fields: Sequence[str]) -> NDArray[np.float64]:
    """Counts of each example over these fields: expected, found, read, right; shape (examples, 4)."""
    kinds = ("expected", "found", "read", "right")
    return np.array([[sum(c[f"{kind} {name}"] for name in fields) for kind in kinds] for c in counted], dtype=float)


def _drawn(table: NDArray[np.float64], seed: int) -> list[float]:
    """F1 of each draw of examples; the same draws for the same seed and number of examples."""
    draws = np.random.default_rng(seed).integers(0, len(table), (BOOTSTRAPS, len(table)))
    return [_f1(*table[rows].sum(axis=0).tolist()) for rows in draws]


def _rates(table: NDArray[np.float64], seed: int) -> dict[str, Any]:
    expected, found, read, right = table.sum(axis=0).tolist()
    drawn = _drawn(table, seed)
    return {
        "expected": int(expected),
        "read": int(read),
        "precision": right / read if read else None,
        "recall": found / expected if expected else None,
        "f1": _f1(expected, found, read, right),
        "interval": np.percentile(drawn, [2.5, 97.5]).tolist(),
    }


def _f1(expected: float, found: float, read: float, right: float) -> float:
    """Returns F1, 0 if nothing was read correctly; expected but not read is a miss."""
    precision, recall = (right / read if read else 0.0), (found / expected if expected else 0.0)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _overlap(mention: LabelledFinding, finding: Finding) -> bool:
    return mention.start < finding.end and finding.start < mention.end


def _same(stated: Stated, value: NoteValue) -> bool:
    if value.concept != stated.concept or value.value is None:
        return False
    close = abs(value.value - stated.value) <= max(1e-6, _RELATIVE_ERROR * abs(stated.value))
    return close and value.start < stated.end and stated.start < value.end


def deduplicated(examples: Iterable[ReaderExample], besides: Iterable[ReaderExample] = ()) -> list[ReaderExample]:
    """Each text once, none that `besides` holds."""
    known = {example.text for example in besides}
    found: Mapping[str, ReaderExample] = {e.text: e for e in examples if e.text not in known}
    return list(found.values())
