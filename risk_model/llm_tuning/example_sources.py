"""Where examples come from: drawn facts, FHIR records, and the notes of FHIR records.

generated(index, "train", 600, seed=7)           # made-up patients, in the styles of a part
from_records(records, index, "train", each=20)   # facts of real records, in the same styles
from_notes(record, rules, index)                 # windows of real notes on which record and rules agree
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random

from fhir_mapping import Note, PatientRecord
from knowledge_index import KnowledgeIndex
from risk_model.core.values import Finding, NoteValue
from risk_model.first_stage.training_rows import patient_folds
from risk_model.llm_tuning.examples import LabelledFinding, ReaderExample, Stated, status
from risk_model.llm_tuning.note_writer import Facts, drawn, facts_of, table, written
from risk_model.notes.rule_reader import RuleNoteReader
from risk_model.prompts.note_prompt import windows

WINDOW = 300
"""Characters of a window cut from a real note."""
_NEAR = timedelta(days=3)
_RELATIVE_ERROR = 0.02


def generated_examples(index: KnowledgeIndex, part: str, count: int, seed: int = 7) -> list[ReaderExample]:
    """About `count` examples of drawn facts in the styles of a part; no text twice."""
    # The same patients every time is the point.
    facts = (drawn(Random(f"{seed}|{part}|{number}")) for number in range(count))  # noqa: S311
    return _examples(facts, index, part, seed, 1)


def from_records(
    records: Iterable[PatientRecord], index: KnowledgeIndex, part: str, each: int, seed: int = 7
) -> list[ReaderExample]:
    """`each` examples of every record's conditions and measurements, in the styles of a part."""
    return _examples((facts_of(record, index) for record in records), index, part, seed, each)


def _examples(facts: Iterable[Facts], index: KnowledgeIndex, part: str, seed: int, each: int) -> list[ReaderExample]:
    listed = list(facts)
    known = {ui for item in listed for ui in (*item.present, *item.past)} | set(table().findings)
    names = {ui: concept.name for ui in known if (concept := index.concept(ui)) is not None}
    return written(listed, table().of_part(part), seed, names, each)


def examples_from_notes(
    records: Iterable[PatientRecord],
    index: KnowledgeIndex,
    *,
    each: int,
    seed: int = 7,
    progress: Callable[[int], None] = lambda _: None,
) -> Mapping[str, list[ReaderExample]]:
    """Examples to train on and to validate on from FHIR records and their notes; one patient is on one side only."""
    rules = RuleNoteReader(index, embed=False)
    found: dict[str, list[ReaderExample]] = {"train": [], "validation": []}
    for number, record in enumerate(records, start=1):
        part = "validation" if patient_folds([record.subject_id])[0] == 0 else "train"
        read = (replace(example, style=f"{example.style}, {part}") for example in from_notes(record, rules, index))
        found[part] += [*from_records([record], index, part, each, seed + number), *read]
        progress(number)
    return found


def from_notes(record: PatientRecord, rules: RuleNoteReader, index: KnowledgeIndex) -> list[ReaderExample]:
    """Returns windows of a record's notes in which all findings of the rules agree with the record.

    The rules alone are no label: a present or past finding must be a condition of the record, an absent one must not
    be, and a number must be measured within three days of the note. A window with one disagreement is left out; so is
    one without findings.
    """
    present, ever = _conditions(record, index)
    found = []
    for note in record.notes():
        if note.status != "read":
            continue
        read = rules.read([note])
        for window in windows(note, WINDOW):
            end = window.start + len(window.text)
            findings = [f for f in read.findings if window.start <= f.start and f.end <= end]
            values = [v for v in read.values if window.start <= v.start and v.end <= end and v.counts]
            agreed = all(_agreed(f, present, ever) for f in findings) and all(
                _measured(v, note, record) for v in values
            )
            if agreed and (findings or values):
                found.append(_example(window.text, window.start, findings, values))
    return list({example.text: example for example in found}.values())


def _conditions(record: PatientRecord, index: KnowledgeIndex) -> tuple[set[str], set[str]]:
    """Descriptors of active conditions, and of all there ever were."""
    linked = [
        (index.link_codes((c.system, c.code, c.display) for c in item.codings), item) for item in record.conditions
    ]
    ever = {found.concept.ui for concepts, _ in linked for found in concepts}
    return {found.concept.ui for concepts, item in linked if item.active for found in concepts}, ever


def _agreed(finding: Finding, present: set[str], ever: set[str]) -> bool:
    word = status(finding.polarity, finding.temporality, finding.experiencer)
    if word == "absent":
        return finding.concept_ui not in present
    return {"present": finding.concept_ui in present, "past": finding.concept_ui in ever}.get(word, word == "family")


def _measured(value: NoteValue, note: Note, record: PatientRecord) -> bool:
    if value.value is None or note.time is None or f"{value.value:g}" not in value.quote:
        return False
    wanted, when = value.value, note.time
    return any(
        item.concept == value.concept
        and abs(item.time - when) <= _NEAR
        and abs(item.value - wanted) <= max(1e-6, _RELATIVE_ERROR * abs(wanted))
        for item in record.measurements
    )


def _example(text: str, start: int, findings: Sequence[Finding], values: Sequence[NoteValue]) -> ReaderExample:
    mentions = tuple(
        LabelledFinding(f.quote, f.start - start, f.concept_ui, f.name, f.polarity, f.temporality, f.experiencer)
        for f in findings
    )
    return ReaderExample(text, mentions, tuple(_stated(values, start)), "notes of records")


def _stated(values: Iterable[NoteValue], start: int) -> Iterator[Stated]:
    for value in values:
        if value.value is not None and value.unit is not None:
            unit = value.unit if value.unit in value.quote else ""
            yield Stated(value.quote, value.start - start, value.concept, value.value, unit, value.value)
