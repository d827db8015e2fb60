"""Rubrics: questions about a record, written once by a language model or a clinician, then evaluated by rules alone.

After "rubric representations" (arXiv 2603.11679): a model sees about forty example patients of a task and writes down
what to look for; from then on these rules turn a record into numbers. A rubric is a YAML or JSON file::

    rubric: 1
    task: in_hospital_mortality
    title: Signs of a stay that may end badly
    author: name and date
    items:
      - id: lactate_high                     # the input is called rubric.lactate_high
        question: Is the highest lactate of the last day above 2 mmol/L?
        type: yes/no                         # yes/no | count | level | number
        read: {concept: lactate, aggregate: max, within: 24 h, above: 2}
      - id: kidney
        question: How far is creatinine raised?
        type: level                          # 0 below the first threshold, 1 from it on, ...
        read: {concept: creatinine, aggregate: last, levels: [1.2, 2, 3.5]}
      - id: heart_failure
        question: Is heart failure among the conditions?
        type: yes/no
        read: {conditions: {words: [heart failure], codes: [{system: icd10cm, prefixes: [I50]}]}}
      - id: earlier_stays
        question: How many inpatient stays began in the last year?
        type: count
        read: {stays: inpatient, within: 365 d}

`read` takes exactly one of: concept (a measured value, or `age`), conditions, medications, procedures (by words of
their text or by codes), stays (a class of encounter), findings (names a note reader found present). Unknown is never
normal: what was not fetched, not measured, or not read is NaN, never "no".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifact_store import DocumentError, parse_document
from fhir_mapping import PatientRecord, StayClass
from fhir_mapping.terminology import definitions
from risk_model.core.errors import TaskDefinitionError
from risk_model.features.rubric_items import (
    AGGREGATES,
    CodedCount,
    InNotes,
    ItemReader,
    ItemValue,
    MeasuredItem,
    Stays,
    coded,
)
from risk_model.labels.predicates import Bounds
from risk_model.labels.schema import TaskField, bounds

PREFIX = "rubric."
RUBRIC_OF_NOTES = "rubric.notes."
"""Inputs of items that read notes. They have their own prefix because a language model's reading can change them."""
TYPES = ("yes/no", "count", "level", "number")
_READERS = ("concept", "conditions", "medications", "procedures", "stays", "findings")
_LIMITS = ("below", "above", "at_least", "at_most")
_MOST_ITEMS = 200


@dataclass(frozen=True, slots=True)
class RubricItem:
    """One question. `bounds` turn a number into yes or no, `levels` into a level."""

    id: str
    question: str
    type: str
    reading: ItemReader
    bounds: Bounds | None = None
    levels: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return f"{RUBRIC_OF_NOTES if isinstance(self.reading, InNotes) else PREFIX}{self.id}"

    def value(self, found: ItemValue) -> float:
        """Returns the answer as a number, NaN if it is unknown."""
        number = found.number
        if number is None or np.isnan(number):
            return np.nan
        if self.type == "level":
            return float(sum(number >= threshold for threshold in self.levels))
        if self.type == "yes/no":
            return float(number > 0 if self.bounds is None else self.bounds.hold(number))
        return float(number)


@dataclass(frozen=True, slots=True)
class Rubric:
    """Rubric.open("rubric.yaml").row(record) has one number for each of `names`."""

    task: str
    title: str
    author: str
    items: tuple[RubricItem, ...]
    source: str
    """The text of the file, without what a language model wrote around it."""

    @classmethod
    def open(cls, path: Path) -> Rubric:
        """Raises TaskDefinitionError with the file and field that violate the schema."""
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise TaskDefinitionError(f"cannot be read ({error.strerror})", file=str(path), field="the file") from None
        return parse_rubric(text, str(path))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.items)

    def row(self, record: PatientRecord, present: frozenset[str] | None = None) -> NDArray[np.float32]:
        """Returns the row, shape (items,). `present` are the names a note reader found present; None if no note was
        read."""
        return np.array([item.value(item.reading.of(record, present)) for item in self.items], np.float32)


def shipped_rubric(task: str) -> Path:
    """Returns the path of the shipped rubric for a task; the file may not exist."""
    return Path(__file__).resolve().parents[1] / "shipped" / "rubrics" / f"{task}.yaml"


def parse_rubric(text: str, file: str) -> Rubric:
    """Returns the rubric after validation; from a language model's answer, the one in its fenced block.

    Raises TaskDefinitionError with the field.
    """
    try:
        raw = parse_document(without_code_fence(text), anchors=True)
    except DocumentError as error:
        where = "the file" if error.line is None else f"line {error.line}"
        raise TaskDefinitionError(f"not YAML (JSON is YAML too): {error}", file=file, field=where) from None
    root = TaskField(file, "", raw)
    root.mapping({"rubric", "task", "title", "author", "items"}, {"rubric", "task", "items"})
    if root.at("rubric").value != 1:
        root.at("rubric").fail("must be 1, the version of this format")
    listed = root.at("items").items()
    if len(listed) > _MOST_ITEMS:
        root.at("items").fail(f"{len(listed)} items; at most {_MOST_ITEMS}")
    items = tuple(_item(field) for field in listed)
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        root.at("items").fail(f"the id {twice[0]!r} is there twice")
    words = {key: root.at(key).text() if key in raw else "" for key in ("title", "author")}
    return Rubric(root.at("task").text(), words["title"], words["author"], items, without_code_fence(text))


def without_code_fence(text: str) -> str:
    """Returns the content of the first fenced block of an answer; the whole text if there is none.

    >>> without_code_fence("Here it is:\\n```yaml\\nrubric: 1\\n```\\nGood luck!")
    'rubric: 1\\n'
    """
    _, fence, rest = text.partition("```")
    if not fence:
        return text
    inside, closing, _ = rest.partition("```")
    return inside.partition("\n")[2] if closing else text


def _item(field: TaskField) -> RubricItem:
    field.mapping({"id", "question", "type", "read"}, {"id", "question", "type", "read"})
    name = field.at("id").text()
    if not name.isascii() or not name.replace("_", "").isalnum() or name != name.lower():
        field.at("id").fail(f"{name!r}: small letters, digits and _ only")
    kind = field.at("type").word(TYPES)
    read = field.at("read")
    reading = _reading(read)
    limited = [key for key in _LIMITS if key in read.value]
    if limited and kind != "yes/no":
        read.at(limited[0]).fail("a bound belongs to type yes/no")
    if ("levels" in read.value) != (kind == "level"):
        read.fail("levels belong to type level, and a level needs them")
    if kind == "number" and not isinstance(reading, MeasuredItem):
        field.at("type").fail("number belongs to a concept; use count")
    if kind == "yes/no" and isinstance(reading, MeasuredItem) and not limited:
        read.fail(f"a yes/no about a concept needs a bound: {', '.join(_LIMITS)}")
    levels = tuple(item.number() for item in read.at("levels").items()) if "levels" in read.value else ()
    if list(levels) != sorted(set(levels)):
        read.at("levels").fail("thresholds must rise")
    limits = bounds(TaskField(read.file, read.path, {key: read.value[key] for key in limited})) if limited else None
    return RubricItem(name, field.at("question").text(), kind, reading, limits, levels)


def _reading(field: TaskField) -> ItemReader:
    common = {*_LIMITS, "levels", "within"}
    field.mapping({*_READERS, "aggregate", *common})
    chosen = [key for key in _READERS if key in field.value]
    if len(chosen) != 1:
        field.fail(f"needs exactly one of {', '.join(_READERS)}")
    if "aggregate" in field.value and chosen[0] != "concept":
        field.at("aggregate").fail("belongs to a concept")
    within = field.at("within").duration() if "within" in field.value else None
    if within is not None and within <= timedelta(0):
        field.at("within").fail("must be longer than nothing; it looks back from the prediction time")
    return _BY_KIND[chosen[0]](field, within)


def _measured(field: TaskField, within: timedelta | None) -> ItemReader:
    concept = field.at("concept").word({*definitions().concepts, "age"})
    aggregate = field.at("aggregate").word(AGGREGATES) if "aggregate" in field.value else "last"
    if concept == "age" and (within is not None or aggregate != "last"):
        field.fail("age takes neither aggregate nor within")
    return MeasuredItem(concept, aggregate, within)


def _listed(field: TaskField, within: timedelta | None, kind: str) -> CodedCount:
    return coded(field.at(kind), kind, within)


def _stays(field: TaskField, within: timedelta | None) -> ItemReader:
    names = field.at("stays").words([*StayClass, "any"])
    return Stays(frozenset(StayClass) if "any" in names else frozenset(StayClass(name) for name in names), within)


def _findings(field: TaskField, within: timedelta | None) -> ItemReader:
    if within is not None:
        field.at("within").fail("notes are read as they are at the prediction time; findings take no window")
    return InNotes(frozenset(item.text().casefold() for item in field.at("findings").items()))


_BY_KIND: Mapping[str, Callable[[TaskField, timedelta | None], ItemReader]] = {
    "concept": _measured,
    "conditions": lambda field, within: _listed(field, within, "conditions"),
    "medications": lambda field, within: _listed(field, within, "medications"),
    "procedures": lambda field, within: _listed(field, within, "procedures"),
    "stays": _stays,
    "findings": _findings,
}


def filled(rows: NDArray[np.float32], known_from: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns rows for a linear model: unknown as the median of `known_from`, and for each input whether it was known.

    Shape (rows, 2 * items). A linear model does not accept NaN; the second half keeps unknown apart from normal.
    """
    known = np.isfinite(known_from)
    middle = np.array([np.median(c[k]) if k.any() else 0.0 for c, k in zip(known_from.T, known.T, strict=True)])
    return np.concatenate([np.where(np.isfinite(rows), rows, middle), np.isfinite(rows)], axis=1).astype(np.float32)
