"""A task as a YAML file: the time of prediction, the population, and the outcome.

::

    trigger -------- prediction_time ---- window.from ---------------- window.to
               at                         |-- label: does it hold in here? --|
    everything the model sees  <--------|

    id: long_stay                        # the task; several definitions of one task share it
    definition: ehrshot                  # the name of the label definition
    title: Stay of a week or more
    outcome: staying a week or more      # as it reads after "the risk of"; default: the title
    timeline: free text, printed by `riskcards cohort tasks`
    trigger: {event: admission, class: inpatient, at: end of day}
    include: {adult: {age: {at_least: 18}}}                # each must hold, or the row is excluded as `not adult`
    exclude: {discharged the same day: {stay: {ends_same_day: true}}}
    window: {from: 0 min, to: end of stay}
    label: {stay: {days: {at_least: 7}}}
    censoring: exclude

- `trigger.event`: `admission`, `discharge` (of an encounter of `class`, default inpatient), `measurement` (of
  `concept`) or `report` (with one of `codes`). `at`: `event` (default), `end of day` (23:59), or an offset such as
  `24 h`, `-1 min`. `every: 24 h` predicts again and again until the stay ends.
- `window`: `from` and `to` count from the prediction time; `to: end of stay` for what happens in the index stay.
- `label`: a predicate (`schema.PREDICATES`), or `levels`: a list of `{name, when}`, of which the first that
  holds is the level, and any level is a positive.
- `censoring`, for a negative whose window reaches past the end of follow-up: `exclude` it, or keep it as `negative`.

A label that is unknown (an undated death, a stay still running) is excluded as `label unknown`, never negative. An
unknown inclusion excludes; an unknown exclusion does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from artifact_store import DocumentError, parse_document
from fhir_mapping import StayClass
from fhir_mapping.terminology import definitions
from risk_model.core.errors import TaskDefinitionError, UnknownTaskError
from risk_model.core.tasks import TASKS, Task
from risk_model.labels.predicates import CodedEvent, CodeSet, Predicate
from risk_model.labels.schema import TaskField, predicate

END_OF_DAY = "end of day"
END_OF_STAY = "end of stay"
_KEYS = frozenset(
    {"id", "definition", "title", "outcome", "source", "timeline", "trigger", "include", "exclude", "window", "label",
     "levels", "censoring", "default", "alias"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trigger:
    """The event of a prediction. `at` is an offset from the event, or None for the end of its day."""

    event: str
    classes: frozenset[StayClass]
    at: timedelta | None
    every: timedelta | None = None
    concept: str | None = None
    codes: tuple[CodeSet, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """One label definition of one task. `to` None means the end of the index stay.

    `levels` is empty for a plain yes-or-no label; else the names with their predicates, and `label` is any of them.
    """

    id: str
    definition: str
    title: str
    outcome: str
    source: str
    timeline: str
    trigger: Trigger
    include: Mapping[str, Predicate]
    exclude: Mapping[str, Predicate]
    start: timedelta
    to: timedelta | None
    label: Predicate | None
    levels: tuple[tuple[str, Predicate], ...]
    keep_censored: bool
    default: bool = False
    aliases: tuple[str, ...] = ()
    text: str = ""
    """The text of the file, kept with every cohort built from it."""

    @property
    def question(self) -> Task:
        """The task of a model trained with this definition."""
        if self.id in TASKS:
            return replace(TASKS[self.id], label=self.definition)
        horizon = "until the end of this stay" if self.to is None else f"{_in_words(self.start, self.to)}"
        return Task(self.id, self.title, self.outcome or _lower_first(self.title), self.definition, horizon)


def _lower_first(title: str) -> str:
    """Returns the title for use within a sentence.

    >>> _lower_first("Stay of a week"), _lower_first("ICU transfer")
    ('stay of a week', 'ICU transfer')
    """
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def _in_words(start: timedelta, to: timedelta) -> str:
    """Returns the time window in words.

    >>> _in_words(timedelta(0), timedelta(hours=36)), _in_words(timedelta(days=1), timedelta(days=30))
    ('within 36 hours', 'from 24 hours to 30 days from then')
    """
    first, last = (_duration(part) for part in (start, to))
    return f"within {last}" if start <= timedelta(minutes=1) else f"from {first} to {last} from then"


def _duration(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours:g} hours" if hours < 48 or hours % 24 else f"{hours / 24:g} days"


def parse_task(text: str, file: str) -> TaskDefinition:
    """Returns the validated definition of a task file. Raises TaskDefinitionError with the field."""
    try:
        raw = parse_document(text, anchors=True)
    except DocumentError as error:
        where = f"line {error.line}" if error.line is not None else "the file"
        raise TaskDefinitionError(f"not valid YAML: {error}", file=file, field=where) from None
    root = TaskField(file, "", raw)
    values = root.mapping(_KEYS, {"id", "trigger", "window"})
    if ("label" in values) == ("levels" in values):
        root.fail("needs either label or levels")
    window = root.at("window")
    window.mapping({"from", "to"}, {"to"})
    to = None if window.value["to"] == END_OF_STAY else window.at("to").duration()
    start = window.at("from").duration() if "from" in window.value else timedelta(0)
    if to is not None and to <= start:
        window.fail("'to' must lie after 'from'")
    return TaskDefinition(
        id=_name(root.at("id")),
        definition=_name(root.at("definition")) if "definition" in values else _name(root.at("id")),
        title=root.at("title").text() if "title" in values else root.at("id").text(),
        outcome=root.at("outcome").text() if "outcome" in values else "",
        source=root.at("source").text() if "source" in values else "",
        timeline=root.at("timeline").value.rstrip() if "timeline" in values else "",
        trigger=_trigger(root.at("trigger")),
        include=_named(root.get("include")),
        exclude=_named(root.get("exclude")),
        start=start,
        to=to,
        label=predicate(root.at("label")) if "label" in values else None,
        levels=_levels(root.get("levels")),
        keep_censored="censoring" in values and root.at("censoring").word({"exclude", "negative"}) == "negative",
        default="default" in values and root.at("default").flag(),
        aliases=tuple(item.text() for item in root.at("alias").items()) if "alias" in values else (),
        text=text,
    )


def _name(field: TaskField) -> str:
    name = field.text()
    if not all(part.isalnum() for part in name.replace("-", "_").split("_") if part) or not name[0].isalpha():
        field.fail(f"{name!r} is no plain name (letters, digits, - and _)")
    return name


def _trigger(field: TaskField) -> Trigger:
    values = field.mapping({"event", "class", "at", "every", "concept", "codes"}, {"event"})
    event = field.at("event").word({"admission", "discharge", "measurement", "report"})
    classes = field.at("class").words(list(StayClass)) if "class" in values else (StayClass.INPATIENT,)
    concept: str | None = None
    codes: tuple[CodeSet, ...] = ()
    if event == "measurement":
        if "concept" not in values:
            field.fail("'concept' is missing: which measurement triggers the prediction?")
        concept = field.at("concept").word(definitions().concepts.keys())
    if event == "report":
        if "codes" not in values:
            field.fail("'codes' is missing: which reports trigger the prediction?")
        made = predicate(TaskField(field.file, field.path, {"codes": {"any": values["codes"]}}))
        codes = made.sets if isinstance(made, CodedEvent) else ()
    every = field.at("every").duration() if "every" in values else None
    if every is not None and (every <= timedelta(0) or event != "admission"):
        field.at("every").fail("must be positive, and needs the event 'admission'")
    return Trigger(event, frozenset(StayClass(name) for name in classes), _at(field, values), every, concept, codes)


def _at(field: TaskField, values: Mapping[str, Any]) -> timedelta | None:
    if values.get("at", "event") == "event":
        return timedelta(0)
    return None if values["at"] == END_OF_DAY else field.at("at").duration()


def _named(field: TaskField | None) -> Mapping[str, Predicate]:
    if field is None:
        return MappingProxyType({})
    if not isinstance(field.value, dict):
        field.fail("expected a mapping from a reason to a predicate")
    return MappingProxyType({str(reason): predicate(field.at(reason)) for reason in field.value})


def _levels(field: TaskField | None) -> tuple[tuple[str, Predicate], ...]:
    if field is None:
        return ()
    found = []
    for item in field.items():
        item.mapping({"name", "when"}, {"name", "when"})
        found.append((item.at("name").text(), predicate(item.at("when"))))
    return tuple(found)


@cache
def shipped_definitions() -> Mapping[tuple[str, str], TaskDefinition]:
    """Returns every shipped label definition by (task, definition), in the order of their file names."""
    folder = files("risk_model").joinpath("shipped", "tasks")
    found = [
        parse_task(item.read_text("utf-8"), item.name)
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".yaml")
    ]
    return MappingProxyType({(task.id, task.definition): task for task in found})


def find_definition(task: str, definition: str | None = None) -> TaskDefinition:
    """Returns a shipped definition, or that of a YAML file given instead of the task's name.

    Raises UnknownTaskError with the known names, and TaskDefinitionError for a file that violates the schema.
    """
    if task.endswith((".yaml", ".yml")):
        return _from_file(Path(task), definition)
    of_task = [item for item in shipped_definitions().values() if item.id == task]
    if not of_task:
        raise UnknownTaskError(task, tuple(dict.fromkeys(item.id for item in shipped_definitions().values())))
    if definition is None:
        return next((item for item in of_task if item.default), of_task[0])
    for item in of_task:
        if definition in {item.definition, *item.aliases}:
            return item
    raise UnknownTaskError(f"{task} by {definition}", tuple(item.definition for item in of_task))


def _from_file(path: Path, definition: str | None) -> TaskDefinition:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskDefinitionError(
            f"cannot be read ({error.__class__.__name__})", file=str(path), field="the file"
        ) from None
    task = parse_task(text, str(path))
    if definition is not None and definition != task.definition:
        raise UnknownTaskError(f"{task.id} by {definition}", (task.definition,))
    return task
