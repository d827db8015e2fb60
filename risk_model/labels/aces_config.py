"""Reads the task files of ACES (https://github.com/justin13601/ACES), such as those of MEDS-DEV.

A file has `predicates` (what an event is), a `trigger` (the event of a prediction) and `windows` around it, whose
`has` includes or excludes, whose `label` is the outcome and whose `index_timestamp` is the prediction time. A predicate
left open (`???`) is defined by the data's own predicates file. `UNSUPPORTED` says which of ACES's constructs are not
read; each is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from artifact_store import DocumentError, read_document
from risk_model.core.errors import TaskDefinitionError

ANY_EVENT = "_ANY_EVENT"
RECORD_START, RECORD_END = "_RECORD_START", "_RECORD_END"
_BUILT_IN = frozenset({ANY_EVENT, RECORD_START, RECORD_END})
COLUMNS = ("text_value", "unit", "system", "status", "order", "resource")
"""Columns beside code and value that a predicate may ask for (`other_cols`)."""
UNSUPPORTED = (
    "other_cols of a column that is not read: " + ", ".join(COLUMNS) + " are",
    "a static predicate outside patient_demographics",
    "predicates of another data standard than MEDS (ESGPT's columns, a predicates CSV)",
)
_OPEN = "???"
_TOP = frozenset({"predicates", "patient_demographics", "trigger", "windows", "metadata", "description"})
_PLAIN = frozenset(
    {"code", "value_min", "value_max", "value_min_inclusive", "value_max_inclusive", "static", "other_cols"}
)
_WINDOW = frozenset({"start", "end", "start_inclusive", "end_inclusive", "has", "label", "index_timestamp"})
_PIECE = re.compile(
    r"\s*,?\s*(\d+(?:\.\d+)?)\s*(weeks?|w|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-z])", re.I
)
_CLOCK = re.compile(r"\s*,?\s*(\d+):(\d\d)(?::(\d\d))?\s*\Z")
_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class PlainPredicate:
    """Rows with one of `codes` or a code that `pattern` finds, a value within bounds, and these other columns."""

    codes: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    low: float | None = None
    high: float | None = None
    low_inclusive: bool = False
    high_inclusive: bool = False
    columns: tuple[tuple[str, str], ...] = ()

    def names(self, code: str) -> bool:
        """Whether a code is meant."""
        return code in self.codes or (self.pattern is not None and self.pattern.search(code) is not None)

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether the value and the other columns of a row are within bounds."""
        value = row.get("numeric_value")
        if not ((self.low is None and self.high is None) or (value is not None and self._within(float(value)))):
            return False
        return all(row.get(name) == wanted for name, wanted in self.columns)

    def _within(self, exact: float) -> bool:
        # MEDS keeps numbers in single precision: a bound of 1.3 is met by its 1.2999999523.
        value, low, high = (None if number is None else np.float32(number) for number in (exact, self.low, self.high))
        assert value is not None
        above = low is None or value > low or (self.low_inclusive and value == low)
        below = high is None or value < high or (self.high_inclusive and value == high)
        return bool(above and below)


@dataclass(frozen=True, slots=True)
class DerivedPredicate:
    """All (`every`) or any of other predicates at one point in time."""

    every: bool
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`reference` is `trigger`, `start`, `end` or `WINDOW.start|end`; from there `offset`, or the next (`forward`) or
    last event of a predicate."""

    reference: str
    offset: timedelta = timedelta(0)
    event: str | None = None
    forward: bool = True


@dataclass(frozen=True, slots=True)
class AcesWindow:
    name: str
    start: Endpoint
    end: Endpoint
    start_inclusive: bool
    end_inclusive: bool
    has: Mapping[str, tuple[int | None, int | None]]
    label: str | None
    index: str | None

    @property
    def from_start(self) -> bool:
        """Whether the end is found from the start, else the start from the end."""
        return self.end.reference == "start"


@dataclass(frozen=True, slots=True)
class AcesTask:
    """AcesTask.open(path, predicates=path). `windows` are in an order in which each needs only those before it."""

    file: str
    plain: Mapping[str, PlainPredicate]
    derived: Mapping[str, DerivedPredicate]
    demographics: Mapping[str, PlainPredicate]
    trigger: str
    windows: tuple[AcesWindow, ...]
    label_window: AcesWindow = field(repr=False)
    index_window: AcesWindow = field(repr=False)

    @classmethod
    def open(cls, path: Path, predicates: Path | None = None) -> AcesTask:
        """Raises TaskDefinitionError, naming the place, for a file that is none or uses what is not supported."""
        raw = _Node(str(path), "", _yaml(path)).mapping(_TOP, {"trigger", "windows"})
        given = dict(raw.get("predicates") or {})
        if predicates is not None:
            more = _Node(str(predicates), "", _yaml(predicates)).mapping(_TOP, {"predicates"})
            given |= more["predicates"] or {}
        root = _Node(str(path), "", {**raw, "predicates": given})
        windows = _in_order(root, [_window(root.at("windows").at(name), name) for name in _named(root, "windows")])
        trigger = root.at("trigger").text()
        wanted = {trigger, *(w.label for w in windows if w.label)}
        wanted |= {name for w in windows for name in w.has} | {
            e.event for w in windows for e in (w.start, w.end) if e.event
        }
        plain, derived = _predicates(root, wanted - _BUILT_IN)
        demographics = {
            name: _plain(root.at("patient_demographics").at(name)) for name in _named(root, "patient_demographics")
        }
        return cls(
            str(path), plain, derived, demographics, trigger, windows,
            _only(root, windows, "label"), _only(root, windows, "index"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Node:
    """A value of the file with its path, for errors."""

    file: str
    path: str
    value: Any

    def fail(self, message: str) -> Any:
        raise TaskDefinitionError(message, file=self.file, field=self.path or "the file")

    def at(self, key: str) -> _Node:
        return _Node(self.file, f"{self.path}.{key}".lstrip("."), self.value[key])

    def mapping(self, allowed: frozenset[str], required: set[str]) -> Mapping[str, Any]:
        if not isinstance(self.value, dict):
            self.fail("expected a mapping, as in a task file of ACES")
        for key in self.value:
            if key not in allowed:
                self.fail(f"unknown key {key!r}; ACES knows {', '.join(sorted(allowed))}")
        for key in required - set(self.value):
            self.fail(f"{key!r} is missing")
        found: Mapping[str, Any] = self.value
        return found

    def text(self) -> str:
        if not isinstance(self.value, str):
            self.fail(f"expected text, found {self.value!r}")
        return str(self.value).strip()


def _yaml(path: Path) -> Any:
    try:
        return read_document(path, anchors=True)
    except DocumentError as error:
        where = "the file" if error.line is None else f"line {error.line}"
        raise TaskDefinitionError(str(error), file=str(path), field=where) from None


def _named(root: _Node, key: str) -> list[str]:
    found = root.value.get(key) or {}
    if not isinstance(found, dict):
        root.at(key).fail("expected a mapping from names")
    return [str(name) for name in found]


def _only(root: _Node, windows: tuple[AcesWindow, ...], name: str) -> AcesWindow:
    found = [window for window in windows if getattr(window, name) is not None]
    if len(found) != 1:
        key = "index_timestamp" if name == "index" else name
        root.at("windows").fail(f"exactly one window needs {key!r}, found {len(found)}")
    return found[0]


def _predicates(root: _Node, wanted: set[str]) -> tuple[dict[str, PlainPredicate], dict[str, DerivedPredicate]]:
    """Only the predicates that the task uses; a derived one after its parts."""
    plain: dict[str, PlainPredicate] = {}
    derived: dict[str, DerivedPredicate] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in plain or name in derived or name in _BUILT_IN:
            return
        if name in above:
            root.at("predicates").at(name).fail(f"defined by itself: {' -> '.join((*above, name))}")
        if name not in root.value["predicates"]:
            root.fail(f"the predicate {name!r} is not defined; give the predicates of the data (--predicates FILE)")
        node = root.at("predicates").at(name)
        if node.value == _OPEN or (isinstance(node.value, dict) and node.value.get("code") == _OPEN):
            node.fail("left open ('???'): the data define it; give their predicates file (--predicates FILE)")
        if isinstance(node.value, dict) and "expr" in node.value:
            made = _derived(node)
            for part in made.parts:
                visit(part, (*above, name))
            derived[name] = made
        else:
            plain[name] = _plain(node, demographic=False)

    for name in sorted(wanted):
        visit(name, ())
    return plain, derived


def _derived(node: _Node) -> DerivedPredicate:
    if set(node.value) - {"expr", "static"}:
        node.fail("a predicate with 'expr' has no other key")
    found = re.fullmatch(r"\s*(and|or)\((.*)\)\s*", str(node.value["expr"]))
    parts = tuple(part.strip() for part in found[2].split(",")) if found else ()
    if found is None or len(parts) < 2 or not all(re.fullmatch(r"\w+", part) for part in parts):
        node.fail(f"{node.value['expr']!r} is not 'and(...)' or 'or(...)' of two or more predicates")
        raise AssertionError
    return DerivedPredicate(found[1] == "and", parts)


def _plain(node: _Node, *, demographic: bool = True) -> PlainPredicate:
    values = node.mapping(_PLAIN, {"code"})
    if values.get("static") and not demographic:
        node.fail("a static predicate outside patient_demographics is not supported")
    codes, pattern = _codes(node.at("code"))
    others = values.get("other_cols") or {}
    for name in others:
        if name not in COLUMNS:
            node.at("other_cols").fail(f"the column {name!r} is not supported; {', '.join(COLUMNS)} are")
    for name in ("value_min", "value_max"):
        if values.get(name) is not None and (
            isinstance(values[name], bool) or not isinstance(values[name], int | float)
        ):
            node.at(name).fail(f"expected a number, found {values[name]!r}")
    return PlainPredicate(
        codes, pattern, values.get("value_min"), values.get("value_max"), bool(values.get("value_min_inclusive")),
        bool(values.get("value_max_inclusive")), tuple((str(k), str(v)) for k, v in others.items()),
    )  # fmt: skip


def _codes(node: _Node) -> tuple[frozenset[str], re.Pattern[str] | None]:
    if isinstance(node.value, str):
        return frozenset({node.value}), None
    if not isinstance(node.value, dict) or len(node.value) != 1 or next(iter(node.value)) not in {"regex", "any"}:
        node.fail("expected a code, {regex: ...} or {any: [...]}")
    if "any" in node.value:
        if not isinstance(node.value["any"], list) or not node.value["any"]:
            node.fail("'any' needs a list of codes")
        return frozenset(map(str, node.value["any"])), None
    try:
        return frozenset(), re.compile(node.at("regex").text())
    except re.error as error:
        node.fail(f"no regular expression: {error}")
        raise AssertionError from None


def _window(node: _Node, name: str) -> AcesWindow:
    values = node.mapping(_WINDOW, {"start", "end"})
    start, end = (_endpoint(node.at(key), RECORD_START if key == "start" else RECORD_END) for key in ("start", "end"))
    if (start.reference == "end") == (end.reference == "start"):
        node.fail("exactly one of start and end must be found from the other")
    inner = end if end.reference == "start" else start
    backwards = inner.offset < timedelta(0) or (inner.event is not None and not inner.forward)
    forwards = inner.offset > timedelta(0) or (inner.event is not None and inner.forward)
    if backwards if inner is end else forwards:
        node.fail("the start does not lie before the end")
    index = values.get("index_timestamp")
    if index not in {None, "start", "end"}:
        node.at("index_timestamp").fail("is 'start' or 'end'")
    has = {str(key): _range(node.at("has").at(key)) for key in values.get("has") or {}}
    flags = (values.get("start_inclusive", True), values.get("end_inclusive", True))
    if not all(isinstance(flag, bool) for flag in flags):
        node.fail("start_inclusive and end_inclusive are True or False")
    return AcesWindow(name, start, end, *flags, has, values.get("label"), index)


def _endpoint(node: _Node, of_record: str) -> Endpoint:
    """
    >>> _endpoint(_Node("t.yaml", "end", "start -> death"), RECORD_END)
    Endpoint(reference='start', offset=datetime.timedelta(0), event='death', forward=True)
    """
    if node.value is None:
        return Endpoint(
            "end" if of_record == RECORD_START else "start", event=of_record, forward=of_record == RECORD_END
        )
    text = node.text()
    found = re.fullmatch(r"(\w+(?:\.(?:start|end))?)\s*(?:(->|<-)\s*(\w+)|([+-])\s*(\S.*))?", text)
    if found is None or ("." not in found[1] and found[1] not in {"trigger", "start", "end"}):
        node.fail(f"{text!r} is not such as 'trigger', 'input.end + 24h' or 'start -> discharge'")
        raise AssertionError
    if found[2]:
        return Endpoint(found[1], event=found[3], forward=found[2] == "->")
    length = _duration(node, found[5]) if found[5] else timedelta(0)
    return Endpoint(found[1], -length if found[4] == "-" else length)


def _duration(node: _Node, text: str) -> timedelta:
    """
    >>> _duration(_Node("t.yaml", "end", ""), "1 day 2 hours"), _duration(_Node("t.yaml", "end", ""), "365D").days
    (datetime.timedelta(days=1, seconds=7200), 365)
    """
    seconds, place = 0.0, 0
    while (piece := _PIECE.match(text, place)) is not None:
        seconds += float(piece[1]) * _SECONDS[piece[2][0].lower()]
        place = piece.end()
    rest = text[place:]
    if (clock := _CLOCK.fullmatch(rest)) is not None:
        hours, minutes, last = (int(part or 0) for part in clock.groups())
        seconds, rest = seconds + 3_600 * hours + 60 * minutes + last, ""
    if rest.strip() or text == rest:
        node.fail(f"{text!r} is no duration such as '24h', '30 days' or '1 day 2 hours'")
    return timedelta(seconds=seconds)


def _range(node: _Node) -> tuple[int | None, int | None]:
    """
    >>> _range(_Node("t.yaml", "has", "(None, 0)"))
    (None, 0)
    """
    parts = node.value if isinstance(node.value, list) else str(node.value).strip("()[] ").split(",")
    words = ["" if part is None else str(part).strip() for part in parts]
    if len(words) != 2 or not all(word in {"None", "null", ""} or word.isdigit() for word in words):
        node.fail(f"{node.value!r} is not (least, most), such as (1, None)")
    low, high = (int(word) if word.isdigit() else None for word in words)
    return low, high


def _in_order(root: _Node, windows: list[AcesWindow]) -> tuple[AcesWindow, ...]:
    """The windows, each after those it refers to."""
    known = {window.name for window in windows}

    def needs(window: AcesWindow) -> Iterator[str]:
        for endpoint in (window.start, window.end):
            name, dot, _ = endpoint.reference.partition(".")
            if dot:
                yield name

    placed: dict[str, AcesWindow] = {}
    while len(placed) < len(windows):
        for window in windows:
            if missing := next((name for name in needs(window) if name not in known), None):
                root.at("windows").at(window.name).fail(f"refers to a window {missing!r} that does not exist")
        ready = [w for w in windows if w.name not in placed and all(name in placed for name in needs(w))]
        if not ready:
            root.at("windows").fail("the windows refer to each other in a circle")
        placed |= {window.name: window for window in ready}
    return tuple(placed.values())
