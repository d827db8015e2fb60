"""Labels of MEDS data by a task file of ACES, one for each trigger whose windows hold.

As in ACES, what happens at one point in time is one event: a plain predicate counts its rows, a derived one is there or
not, `_ANY_EVENT` counts points in time. A window that ends with an event needs that event; a trigger without it is left
out, and so is one whose window has too few or too many of what it must have.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from risk_model.core.errors import CohortError
from risk_model.labels.aces_config import (
    ANY_EVENT,
    RECORD_END,
    RECORD_START,
    AcesTask,
    AcesWindow,
    Endpoint,
    PlainPredicate,
)
from risk_model.labels.given_labels import GivenLabels

Meant = tuple[tuple[str, PlainPredicate], ...]


@dataclass(frozen=True, slots=True)
class AcesLabel:
    """One prediction; the time has no zone, as in MEDS."""

    subject_id: str
    prediction_time: datetime
    label: bool


@dataclass
class AcesLabels:
    """AcesLabels(task).of(subject, rows) yields the labels; `left_out` counts the triggers without one, by reason."""

    task: AcesTask
    triggers: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    early: int = 0
    """Labels whose window begins before the prediction: part of the outcome may be known by then."""
    _meant: dict[str, Meant] = field(default_factory=dict, repr=False)
    """Code -> the plain predicates that name it: a dataset has few codes and many rows."""

    def of(self, subject_id: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[AcesLabel]:
        listed = [row for row in rows if isinstance(row["code"], str)]
        record = _Record(self.task, self._meant, [row for row in listed if isinstance(row["time"], datetime)])
        static = [row for row in listed if row["time"] is None]
        others = [
            name
            for name, asked in self.task.demographics.items()
            if not any(asked.names(row["code"]) and asked.fits(row) for row in static)
        ]
        for trigger in record.times_of(self.task.trigger):
            self.triggers += 1
            if others:
                self.left_out[f"not in patient_demographics: {', '.join(others)}"] += 1
                continue
            found = record.realise(trigger)
            if isinstance(found, str):
                self.left_out[found] += 1
                continue
            span, index = found[self.task.label_window.name], found[self.task.index_window.name]
            label = record.count(self.task.label_window, str(self.task.label_window.label), span) > 0
            at = index[0 if self.task.index_window.index == "start" else 1]
            self.early += span[0] < at
            yield AcesLabel(subject_id, at, label)

    def warning(self) -> str | None:
        """Returns what is to be known of the task; None if there is nothing."""
        if not self.early:
            return None
        window = self.task.label_window.name
        return f"{self.early:,} labels look at a window ({window}) that begins before the prediction: is that meant?"

    def given(self, file: Path, subjects: Iterable[tuple[str, Iterable[Mapping[str, Any]]]]) -> GivenLabels:
        """Returns the labels of all subjects for a cohort. Raises CohortError where there is none.

        Two labels of a subject at one time that disagree are left out, with their number.
        """
        found: dict[str, tuple[tuple[datetime, bool], ...]] = {}
        for subject, rows in subjects:
            answers: dict[datetime, set[bool]] = {}
            for label in self.of(subject, rows):
                given = answers.setdefault(label.prediction_time.replace(tzinfo=UTC), set())
                self.left_out["the same label twice"] += label.label in given
                given.add(label.label)
            self.left_out["labels at one time that disagree"] += sum(len(each) > 1 for each in answers.values())
            kept = tuple((at, each.pop()) for at, each in sorted(answers.items()) if len(each) == 1)
            if kept:
                found[subject] = kept
        self.left_out = +self.left_out
        if not found:
            raise CohortError(f"{file}: none of {self.triggers:,} triggers gives a label{self._reasons()}")
        reasons = Counter({f"triggers left out, {reason}": number for reason, number in self.left_out.items()})
        return GivenLabels(file, found, reasons)

    def _reasons(self) -> str:
        if not self.left_out:
            return f"; no event of the data is {self.task.trigger!r}: do the predicates name its codes?"
        return "; " + ", ".join(f"{reason}: {number:,}" for reason, number in self.left_out.most_common())


Span = tuple[datetime, datetime]


class _Record:
    """The points in time of one subject, and how often each predicate holds there."""

    def __init__(self, task: AcesTask, meant: dict[str, Meant], rows: Iterable[Mapping[str, Any]]) -> None:
        self._task = task
        at_time: dict[datetime, Counter[str]] = {}
        for row in rows:
            counts = at_time.setdefault(_bare(row["time"]), Counter())
            code = row["code"]
            if code not in meant:
                meant[code] = tuple((name, asked) for name, asked in task.plain.items() if asked.names(code))
            counts.update(name for name, asked in meant[code] if asked.fits(row))
        self._times = sorted(at_time)
        for place, time in enumerate(self._times):
            counts = at_time[time]
            for name, derived in task.derived.items():
                counts[name] = int((all if derived.every else any)(counts[part] > 0 for part in derived.parts))
            counts[ANY_EVENT] = 1
            counts[RECORD_START] = int(place == 0)
            counts[RECORD_END] = int(place == len(self._times) - 1)
        self._counts = [at_time[time] for time in self._times]
        self._of: dict[str, list[datetime]] = {}

    def times_of(self, name: str) -> list[datetime]:
        if name not in self._of:
            pairs = zip(self._times, self._counts, strict=True)
            self._of[name] = [time for time, counts in pairs if counts[name] > 0]
        return self._of[name]

    def realise(self, trigger: datetime) -> dict[str, Span] | str:
        """Returns the span of every window, or the reason why there is none."""
        spans: dict[str, Span] = {}
        for window in self._task.windows:
            span = self._span(window, trigger, spans)
            if span is None:
                return f"{window.name}: no event to begin or end it"
            for name, (least, most) in window.has.items():
                number = self.count(window, name, span)
                if (least is not None and number < least) or (most is not None and number > most):
                    return f"{window.name}: {number if number < 2 else 'several'} of {name}"
            spans[window.name] = span
        return spans

    def count(self, window: AcesWindow, name: str, span: Span) -> int:
        first = (bisect_left if window.start_inclusive else bisect_right)(self._times, span[0])
        last = (bisect_right if window.end_inclusive else bisect_left)(self._times, span[1])
        return sum(counts[name] for counts in self._counts[first:last])

    def _span(self, window: AcesWindow, trigger: datetime, spans: Mapping[str, Span]) -> Span | None:
        outer, inner = (window.start, window.end) if window.from_start else (window.end, window.start)
        name, dot, side = outer.reference.partition(".")
        root = spans[name][0 if side == "start" else 1] if dot else trigger
        near = self._point(root, outer, at_once=False)
        at_once = window.start_inclusive if window.from_start else window.end_inclusive
        far = None if near is None else self._point(near, inner, at_once=at_once)
        if near is None or far is None:
            return None
        return (near, far) if window.from_start else (far, near)

    def _point(self, root: datetime, endpoint: Endpoint, *, at_once: bool) -> datetime | None:
        """The time of an endpoint; with `at_once` an event at the root itself ends the search."""
        if endpoint.event is None:
            return root + endpoint.offset
        times = self.times_of(endpoint.event)
        if endpoint.forward:
            place = (bisect_left if at_once else bisect_right)(times, root)
            return times[place] if place < len(times) else None
        place = (bisect_right if at_once else bisect_left)(times, root) - 1
        return times[place] if place >= 0 else None


def write_labels(labels: Sequence[AcesLabel], out: Path) -> None:
    """Write a label file of MEDS: `subject_id`, `prediction_time`, `boolean_value`.

    Raises CohortError for a file that exists, or of another kind than .csv and .parquet.
    """
    if out.suffix not in {".csv", ".parquet"}:
        raise CohortError(f"{out}: a label file is .csv or .parquet")
    if out.exists():
        raise CohortError(f"{out}: exists already; name another file, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        lines = [f"{item.subject_id},{item.prediction_time.isoformat()},{item.label}" for item in labels]
        out.write_text("\n".join(["subject_id,prediction_time,boolean_value", *lines, ""]), "utf-8")
        return
    import pyarrow
    import pyarrow.parquet as parquet

    columns = {
        "subject_id": pyarrow.array([int(item.subject_id) for item in labels], pyarrow.int64()),
        "prediction_time": pyarrow.array([item.prediction_time for item in labels], pyarrow.timestamp("us")),
        "boolean_value": pyarrow.array([item.label for item in labels], pyarrow.bool_()),
    }
    parquet.write_table(pyarrow.table(columns), out)


def _bare(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
