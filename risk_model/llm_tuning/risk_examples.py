"""Tuning examples for a first stage: windows of patients' notes, the outcome, and a sentence as the reason.

    windows = select_windows(labelled, "in_hospital_mortality", count=600)
    tune(model, windows.split, out, settings, base=base, outcome_tuning=windows.outcome_tuning)

The level is the outcome: high for patients with it, low without. The reason is the sentence with the largest weight in
a regression on the findings of the rules (`note_reasoner`), fitted on other patients, so that a patient's own outcome
has no part in it. Both outcomes are equally frequent in the examples; the manifest has the correction in log-odds. It
also lists all available patients, hashed, not only those drawn, because the draw depends on outcomes. Stage 2 must not
be trained on any of them (see `learned_from`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import Note
from risk_model.core.errors import TrainingError
from risk_model.core.tasks import Task
from risk_model.core.values import NoteFindings
from risk_model.features.inputs import concept_of
from risk_model.features.note_inputs import NOTE
from risk_model.first_stage.fusion import FINDING, frequent_findings, frequent_values, note_values
from risk_model.first_stage.note_reasoner import BesideRows, NoteReasoner, labels_of
from risk_model.first_stage.patient_opinions import asked_windows, windows_to_ask
from risk_model.first_stage.training_rows import patient_folds
from risk_model.llm_tuning.examples import PromptAnswer
from risk_model.llm_tuning.lora import PATIENTS, TuningSplit
from risk_model.notes.rule_reader import RuleNoteReader
from risk_model.prompts.note_prompt import Window
from risk_model.prompts.risk_prompt import RiskPrompt

LOW, HIGH = "low", "high"
VALIDATION = 0.15
"""Share of the windows that decide when to stop."""
FEWEST = 20
"""Fewest patients of each outcome for tuning."""


@dataclass(frozen=True, slots=True)
class LabelledNotes:
    """One row of a cohort: what a language model is shown of it, what rules read there, and the outcome.

    `names` are all ids of the patient; the first is the same for all rows of one person.
    """

    names: tuple[str, ...]
    windows: tuple[Window, ...]
    findings: NoteFindings
    outcome: int


@dataclass(frozen=True, slots=True)
class RiskExample:
    """A window with its level and reason."""

    prompt: RiskPrompt
    level: str
    reason: str
    source: str

    def prompt_answer(self, answers: str) -> PromptAnswer:
        return PromptAnswer(self.prompt.messages, self.prompt.written(self.level, self.reason), self.level)

    def to_json(self) -> dict[str, Any]:
        messages = [message.content for message in self.prompt.messages]
        return {"asked": messages, "level": self.level, "reason": self.reason, "source": self.source}


@dataclass(frozen=True, slots=True)
class WindowExamples:
    split: TuningSplit
    outcome_tuning: Mapping[str, Any] | None = None
    """Of outcomes: task, their share among patients and among examples, offset in log-odds, hashed patients."""


def labelled_notes(
    names: Sequence[str],
    notes: Sequence[Note],
    outcome: int,
    rules: RuleNoteReader,
    evidence_for: str | Task | None = None,
) -> LabelledNotes:
    """Returns the windows of `notes` (newest first) that the model would be asked about, with the rules' findings, and
    for a task with evidence beside them."""
    windows = asked_windows(notes) if evidence_for is None else windows_to_ask(notes, evidence_for, rules.index)
    return LabelledNotes(tuple(names), windows, rules.read(notes), outcome)


def select_windows(
    rows: Iterable[LabelledNotes],
    task: str | Task,
    *,
    count: int,
    most: int = 2,
    seed: int = 7,
    progress: Callable[[int], None] = lambda _: None,
) -> WindowExamples:
    """Returns at most `count` training windows, at most `most` of a row, half of them with the outcome, and validation
    windows of other patients. Raises TrainingError if too few patients had the outcome, or too few had not.
    """
    known = []
    for number, row in enumerate(rows, start=1):
        known += [row] if row.windows else []
        progress(number)
    persons, y = [row.names[0] for row in known], np.array([float(row.outcome) for row in known])
    fewest = min(len({p for p, o in zip(persons, y, strict=True) if o == wanted}) for wanted in (0, 1))
    if fewest < FEWEST:
        raise TrainingError(
            f"{fewest} patients with notes and the rarer outcome; {FEWEST} are the fewest to learn from, and some "
            "hundreds are wanted"
        )
    fold = patient_folds(persons, y=y)
    reasons = _reasons(known, y, fold, task)
    to_validate = np.array([place_of(person, "validation") < VALIDATION for person in persons])
    random = Random(seed)  # noqa: S311 - the same examples every time is the point
    train = _balanced(_examples(known, reasons, ~to_validate, task, most), count, random)
    validation = _balanced(
        _examples(known, reasons, to_validate, task, most), max(8, round(count * VALIDATION)), random
    )
    prior, share = float(y.mean()), sum(e.level == HIGH for e in train) / max(1, len(train))
    outcome_tuning = {
        "task": task if isinstance(task, str) else task.id,
        "share_of_patients": prior,
        "share_of_examples": share,
        "evidence": any(window.knowledge.lines for row in known for window in row.windows),
        "offset": _log_odds(prior) - _log_odds(share),
        "patients": sorted({hashed(name) for row in known for name in row.names}),
    }
    return WindowExamples(TuningSplit(train, validation, PATIENTS), outcome_tuning)


def hashed(patient: str) -> str:
    """Returns a hash of a patient id for manifests: recognisable only by those who have the id."""
    return sha256(f"riskcards|{patient}".encode()).hexdigest()[:24]


def learned_from(manifest: Mapping[str, Any], patients: Sequence[str]) -> NDArray[np.bool_]:
    """Returns which patients an adapter was tuned on, shape (patients,): its answers about them leak outcomes."""
    known = set(manifest.get("outcome_tuning", {}).get("patients", ()))
    return np.array([hashed(patient) in known for patient in patients], dtype=bool)


def _reasons(
    known: Sequence[LabelledNotes], y: NDArray[np.float64], fold: NDArray[np.int64], task: str | Task
) -> list[list[str]]:
    """A sentence for each window of each row, by regressions that did not see the row's patient."""
    read = [row.findings for row in known]
    names = tuple(frequent_values(read) + frequent_findings(read))
    if not names:
        return [[_first(RiskPrompt(window, task)) for window in row.windows] for row in known]
    said = [note_values(findings, names) for findings in read]
    x = np.array([[values[name] for name in names] for values in said], dtype=np.float32)
    reasoner = NoteReasoner(names, x, labels_of(names))
    found: list[list[str]] = [[] for _ in known]
    for number in np.unique(fold):
        learned = reasoner.learn(y, fold != number)
        for place in np.flatnonzero(fold == number).tolist():
            leading = _leading(learned, place) if isinstance(learned, BesideRows) else ()
            quotes = [quote for name in leading for quote in _quotes(known[place].findings, name)]
            found[place] = [_sentence(RiskPrompt(window, task), quotes) for window in known[place].windows]
    return found


def _leading(learned: BesideRows, place: int) -> Iterator[str]:
    """Inputs of one row by how much they move its estimate."""
    notes = learned.notes
    weighed = np.nan_to_num(notes.standardised(learned.x[place][None])[0]) * notes.weights
    return (notes.names[n] for n in np.argsort(-np.abs(weighed), kind="stable") if weighed[n])


def _quotes(findings: NoteFindings, name: str) -> Iterator[str]:
    """The words behind an input."""
    if name.startswith(FINDING):
        yield from (finding.quote for finding in findings.findings if finding.name == name.removeprefix(FINDING))
        return
    concept = concept_of(name).removeprefix(NOTE)
    yield from (value.quote for value in findings.values if value.concept == concept and value.counts)


def _sentence(prompt: RiskPrompt, quotes: Iterable[str]) -> str:
    """The window's sentence that holds the first of the quotes that it holds."""
    found = (prompt.opinion(LOW, None, quote).reason for quote in quotes)
    return next((sentence for sentence in found if sentence), _first(prompt))


def _first(prompt: RiskPrompt) -> str:
    return next(iter(prompt.sentences), "")


def _examples(
    known: Sequence[LabelledNotes],
    reasons: Sequence[Sequence[str]],
    chosen: NDArray[np.bool_],
    task: str | Task,
    most: int,
) -> list[RiskExample]:
    return [
        RiskExample(RiskPrompt(window, task), HIGH if row.outcome else LOW, reason, hashed(row.names[0]))
        for row, texts, wanted in zip(known, reasons, chosen, strict=True)
        if wanted
        for window, reason in list(zip(row.windows, texts, strict=True))[:most]
    ]


def _balanced(examples: Sequence[RiskExample], count: int, random: Random) -> list[RiskExample]:
    """As many of each level, drawn; of the rarer one all that there are where they are fewer."""
    by_level = {level: [e for e in examples if e.level == level] for level in (LOW, HIGH)}
    each = min(count // 2, *map(len, by_level.values()))
    return [example for listed in by_level.values() for example in random.sample(listed, each)]


def place_of(person: str, draw: str) -> float:
    """Of a patient in a draw, in [0, 1): the same wherever they appear."""
    return int(sha256(f"{draw}|{person}".encode()).hexdigest()[:8], 16) / 2**32


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))
