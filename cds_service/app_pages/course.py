"""The risk over the stay: the estimate recalculated from the record as of each past time point."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cds_service.access.admission import Admission
from cds_service.app_pages.chart import ReadAt
from cds_service.cards.wording import outcome_name, percent
from cds_service.explanations.formatting import format_moment
from cds_service.explanations.risk_now import format_interval
from cds_service.explanations.svg import Point, nice_top, polyline
from fhir_mapping import PatientRecord
from risk_model import TASKS, NoteFindings, Pipeline, RiskEstimate

MAX_POINTS = 14
# Steps in hours; the smallest that needs at most MAX_POINTS points is used.
STEPS = (6, 12, 24, 48, 96, 168, 336, 720)
LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 38.0, 10.0, 12.0, 30.0, 400.0, 190.0


@dataclass(frozen=True, slots=True)
class CoursePoint:
    """One time point: a probability as text, or why there is none."""

    when: str
    day: str
    probability: str
    interval: str
    why_not: str
    at: Point | None
    x: float


@dataclass(frozen=True, slots=True)
class CourseView:
    """One task's line and table. `segments` are interrupted where the model abstains."""

    task: str
    title: str
    points: tuple[CoursePoint, ...]
    segments: tuple[str, ...]
    bands: tuple[str, ...]
    baseline: float | None
    baseline_words: str
    ticks: tuple[tuple[float, str], ...]
    days: tuple[tuple[float, str], ...]
    says: str

    @property
    def drawn(self) -> bool:
        return any(point.at is not None for point in self.points)


def moments(start: datetime, now: datetime) -> tuple[datetime, ...]:
    """Returns at most MAX_POINTS evenly spaced times from the start of the stay; the last is now.

    >>> from datetime import UTC
    >>> [m.hour for m in moments(datetime(2026, 1, 1, 8, tzinfo=UTC), datetime(2026, 1, 1, 21, tzinfo=UTC))]
    [14, 20, 21]
    """
    hours = (now - start).total_seconds() / 3600
    step = next((s for s in STEPS if hours / s <= MAX_POINTS - 1), max(STEPS[-1], hours / (MAX_POINTS - 1)))
    count = int(hours / step)
    past = [start + timedelta(hours=step * (n + 1)) for n in range(count)]
    return (*[moment for moment in past if moment < now][-(MAX_POINTS - 1) :], now)


def estimates_over(
    read: ReadAt, record: PatientRecord, pipeline: Pipeline, admission: Admission, deadline: float
) -> Iterator[tuple[datetime, Mapping[str, RiskEstimate]]]:
    """Yields the estimates of every task at each time point, newest first, until `deadline` (`time.monotonic`).

    Each time point enters admission control separately, so a concurrent hook does not wait for all of them.
    """
    stay = record.current_stay
    if stay is None:
        return
    with_notes = any(model.reads_notes for model in pipeline.models.values())
    for moment in reversed(moments(stay.start, record.prediction_time)):
        if time.monotonic() > deadline:
            return
        with admission.enter():
            then = read(moment, with_notes=with_notes)
            findings = pipeline.reader.read(then.notes()) if with_notes else None
            estimated = {task: _estimate(pipeline, task, then, findings) for task in pipeline.models}
        yield moment, estimated


def _estimate(pipeline: Pipeline, task: str, record: PatientRecord, findings: NoteFindings | None) -> RiskEstimate:
    model = pipeline.models[task]
    evidence = pipeline.evidence_for(record, findings, task) if model.reads_evidence and findings is not None else ()
    return model.estimate(record, findings, evidence, pipeline.opinions(record, task))


def course_view(task: str, start: datetime, estimated: Sequence[tuple[datetime, RiskEstimate]]) -> CourseView:
    """Returns the view of `estimated`, oldest first; the last one is now."""
    now = estimated[-1][0]
    span = max(1.0, (now - start).total_seconds())
    highest = [*(e.interval[1] for _, e in estimated if e.interval), *(e.baseline for _, e in estimated if e.baseline)]
    top = nice_top(max([*highest, *(e.probability or 0.0 for _, e in estimated)], default=1.0))

    def x_of(moment: datetime) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (moment - start).total_seconds() / span

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    points = tuple(
        CoursePoint(
            format_moment(moment),
            _since(start, moment),
            "" if e.probability is None else percent(e.probability),
            "" if e.interval is None else format_interval(e.interval),
            "" if e.abstention is None else e.abstention.reason,
            None if e.probability is None else (x_of(moment), y_of(e.probability)),
            x_of(moment),
        )
        for moment, e in estimated
    )
    runs = list(_runs(estimated))
    baseline = next((e.baseline for _, e in estimated if e.baseline), None)
    return CourseView(
        task=task,
        title=outcome_name(TASKS[task]),
        points=points,
        segments=tuple(polyline([(x_of(m), y_of(e.probability or 0.0)) for m, e in run]) for run in runs),
        bands=tuple(
            _band([(x_of(m), y_of(e.interval[0]), y_of(e.interval[1])) for m, e in run if e.interval]) for run in runs
        ),
        baseline=None if baseline is None else y_of(baseline),
        baseline_words="" if baseline is None else percent(baseline),
        ticks=tuple((y_of(top * part), f"{100 * top * part:g} %") for part in (0.0, 0.5, 1.0)),
        days=tuple((x_of(moment), _since(start, moment)) for moment in _marks(start, now)),
        says=_says([e for _, e in estimated]),
    )


def _runs(
    estimated: Sequence[tuple[datetime, RiskEstimate]],
) -> Iterator[list[tuple[datetime, RiskEstimate]]]:
    """The consecutive time points with a probability."""
    run: list[tuple[datetime, RiskEstimate]] = []
    for moment, estimate in estimated:
        if estimate.probability is None:
            if run:
                yield run
            run = []
        else:
            run.append((moment, estimate))
    if run:
        yield run


def _band(edges: Sequence[tuple[float, float, float]]) -> str:
    lower = [(x, low) for x, low, _ in edges]
    upper = [(x, high) for x, _, high in reversed(edges)]
    return polyline([*upper, *lower]) if len(edges) > 1 else ""


def _marks(start: datetime, now: datetime) -> tuple[datetime, ...]:
    """Up to five marks on the time axis, in whole steps from admission."""
    hours = (now - start).total_seconds() / 3600
    step = next((s for s in STEPS if hours / s <= 4), max(1.0, hours / 4))
    return tuple(start + timedelta(hours=step * n) for n in range(int(hours / step) + 1))


def _since(start: datetime, moment: datetime) -> str:
    """
    >>> start = datetime(2026, 1, 1)
    >>> _since(start, start), _since(start, start + timedelta(hours=30)), _since(start, start + timedelta(days=5))
    ('admission', '30 h', 'day 5')
    """
    hours = (moment - start).total_seconds() / 3600
    if hours < 1:
        return "admission"
    return f"{hours:.0f} h" if hours < 72 else f"day {hours / 24:.0f}"


def _says(estimated: Sequence[RiskEstimate]) -> str:
    """One sentence: first, last, lowest and highest estimate."""
    known = [e.probability for e in estimated if e.probability is not None]
    if not known:
        return "The model gave no estimate at any time in this stay."
    without = len(estimated) - len(known)
    text = f"From {percent(known[0])} to {percent(known[-1])}"
    text += f"; lowest {percent(min(known))}, highest {percent(max(known))}."
    return text + (f" No estimate at {without} of {len(estimated)} time points." if without else "")
