"""Predicates on a timeline for labels, inclusions and exclusions. Answers are true, false, or None (unknown).

Each predicate is a small frozen class with `holds(context)`; `schema` reads them from YAML. "And", "or" and "not"
follow Kleene's three-valued logic, so that unknown never counts as false.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Protocol

from fhir_mapping import Stay, StayClass
from fhir_mapping.core import whole_years
from fhir_mapping.resources import disposition
from fhir_mapping.terminology import diagnosis_table
from risk_model.labels.events import TimelineEvent
from risk_model.labels.planned_readmissions import avoidable, planned, same_condition
from risk_model.labels.timeline import PatientTimeline


@dataclass(frozen=True, slots=True)
class PredicateContext:
    """The context of a predicate: the patient, the index stay, the prediction time, and the time window.

    A time `t` is in the window if `start < t <= end`; `inclusive` also admits `start`. `end` None means no end.
    """

    timeline: PatientTimeline
    stay: Stay | None
    at: datetime
    start: datetime
    end: datetime | None
    zone: tzinfo
    inclusive: bool = False

    def within(self, moment: datetime | None) -> bool:
        if moment is None:
            return False
        after = moment >= self.start if self.inclusive else moment > self.start
        return after and (self.end is None or moment <= self.end)

    def end_of_day(self, moment: datetime) -> datetime:
        """Returns 23:59 of the day, in the hospital's time zone."""
        return moment.astimezone(self.zone).replace(hour=23, minute=59, second=0, microsecond=0)


class Predicate(Protocol):
    def holds(self, context: PredicateContext) -> bool | None: ...


def either(answers: Iterable[bool | None]) -> bool | None:
    """Kleene's or.

    >>> either([False, None]), either([None, True]), either([])
    (None, True, False)
    """
    found = tuple(answers)
    return True if True in found else None if None in found else False


def both(answers: Iterable[bool | None]) -> bool | None:
    """Kleene's and.

    >>> both([True, None]), both([None, False]), both([])
    (None, False, True)
    """
    found = tuple(answers)
    return False if False in found else None if None in found else True


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple[Predicate, ...]

    def holds(self, context: PredicateContext) -> bool | None:
        return either(part.holds(context) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple[Predicate, ...]

    def holds(self, context: PredicateContext) -> bool | None:
        return both(part.holds(context) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    part: Predicate

    def holds(self, context: PredicateContext) -> bool | None:
        answer = self.part.holds(context)
        return None if answer is None else not answer


@dataclass(frozen=True, slots=True)
class Bounds:
    """`below` and `above` are exclusive, `at_least` and `at_most` inclusive."""

    below: float | None = None
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def hold(self, value: float) -> bool:
        return (
            (self.below is None or value < self.below)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
        )


@dataclass(frozen=True, slots=True)
class Encounters:
    """An encounter of these classes begins in the window. `first` considers only the first of them.

    One whose class is not understood may be of these classes: without another the answer is unknown.

    `planned` applies CMS's planned-readmission algorithm, `avoidable` requires a potentially avoidable admission, and
    `same_condition` the principal diagnosis of the index stay.
    """

    classes: frozenset[StayClass]
    planned: bool | None = None
    avoidable: bool | None = None
    same_condition: bool | None = None
    first: bool = False
    at_least: int = 1

    def holds(self, context: PredicateContext) -> bool | None:
        found = list(self._found(context))
        if self.first:
            found = found[:1]
        answers = [self._fits(stay, context) for stay in found]
        certain, possible = answers.count(True), len(answers) - answers.count(False)
        return True if certain >= self.at_least else None if possible >= self.at_least else False

    def _found(self, context: PredicateContext) -> Iterator[Stay]:
        index = context.stay.source if context.stay is not None else None
        for stay in context.timeline.stays:
            perhaps = stay.stay_class in self.classes or stay.class_unknown is not None
            if perhaps and stay.source != index and context.within(stay.start):
                yield stay

    def _fits(self, stay: Stay, context: PredicateContext) -> bool | None:
        answers: list[bool | None] = [] if stay.stay_class in self.classes else [None]
        if self.planned is not None:
            answers.append(planned(stay, context.timeline) is self.planned)
        if self.avoidable is not None and context.stay is not None:
            answer = avoidable(stay, context.stay, context.timeline)
            answers.append(None if answer is None else answer is self.avoidable)
        if self.same_condition is not None and context.stay is not None:
            same = same_condition(stay, context.stay, context.timeline)
            answers.append(None if same is None else same is self.same_condition)
        return both(answers)


@dataclass(frozen=True, slots=True)
class MeasuredEvent:
    """A value of a concept, in its canonical unit, is within the bounds at least `count` times in the window."""

    concept: str
    bounds: Bounds
    count: int = 1

    def holds(self, context: PredicateContext) -> bool | None:
        events = context.timeline.events_of("measurement")
        values = [e.value for e in events if e.concept == self.concept and context.within(e.time)]
        return sum(self.bounds.hold(value) for value in values if value is not None) >= self.count


@dataclass(frozen=True, slots=True)
class CodeSet:
    system: str
    codes: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def holds(self, system: str | None, code: str) -> bool:
        """Whether a code is in the set. Dots in ICD codes are ignored; the system is not."""
        if system != self.system:
            return False
        bare = code.replace(".", "").upper()
        return bare in self.codes or bool(self.prefixes and bare.startswith(self.prefixes))


@dataclass(frozen=True, slots=True)
class CodedEvent:
    """An event of these kinds with one of these codes is dated in the window."""

    sets: tuple[CodeSet, ...]
    kinds: frozenset[str]

    def holds(self, context: PredicateContext) -> bool | None:
        events = context.timeline.events_of(*self.kinds)
        return any(self._is(event) and context.within(event.time) for event in events)

    def _is(self, event: TimelineEvent) -> bool:
        return event.kind in self.kinds and any(s.holds(c.system, c.code) for s in self.sets for c in event.codings)


@dataclass(frozen=True, slots=True)
class GroupedCondition:
    """A condition of a diagnosis group is dated in the window."""

    name: str

    def holds(self, context: PredicateContext) -> bool | None:
        group = diagnosis_table().groups[self.name]
        return any(
            context.within(event.time) and any(group.holds(c) for c in event.codings)
            for event in context.timeline.events_of("condition")
        )


@dataclass(frozen=True, slots=True)
class Death:
    """Death in the window (`in_stay` False), or in the index stay at any time."""

    in_stay: bool

    def holds(self, context: PredicateContext) -> bool | None:
        line = context.timeline
        if self.in_stay:
            return None if context.stay is None else line.died_in(context.stay)
        if line.death is None:
            return None if line.death_undated else False
        return context.within(line.death.latest)


@dataclass(frozen=True, slots=True)
class StayIs:
    """Facts of the index stay: how it ended, how long it was, whether it ended on the day it began."""

    dispositions: frozenset[str] = frozenset()
    days: Bounds | None = None
    ends_same_day: bool | None = None
    acute: bool | None = None

    def holds(self, context: PredicateContext) -> bool | None:
        stay = context.stay
        if stay is None:
            return None
        answers: list[bool | None] = []
        if self.dispositions:
            meaning = disposition(stay)
            died = context.timeline.died_in(stay) if "died" in self.dispositions else False
            answers.append(either([died, None if meaning is None else meaning in self.dispositions]))
        if self.days is not None:
            answers.append(None if stay.end is None else self.days.hold((stay.end - stay.start) / timedelta(days=1)))
        if self.ends_same_day is not None:
            answers.append(self._same_day(stay, context))
        if self.acute is not None:
            answers.append(None if stay.acute is None else stay.acute is self.acute)
        return both(answers)

    def _same_day(self, stay: Stay, context: PredicateContext) -> bool:
        days = [m.astimezone(context.zone).date() for m in (stay.start, stay.end) if m is not None]
        return (len(days) == 2 and days[0] == days[1]) is self.ends_same_day


@dataclass(frozen=True, slots=True)
class Age:
    """Completed years at the prediction time; None if the birth date is absent or too imprecise."""

    bounds: Bounds

    def holds(self, context: PredicateContext) -> bool | None:
        birth = context.timeline.birth
        years = None if birth is None else whole_years(birth, context.at)
        return None if years is None else self.bounds.hold(years)


@dataclass(frozen=True, slots=True)
class Sex:
    name: str

    def holds(self, context: PredicateContext) -> bool | None:
        return None if context.timeline.sex is None else context.timeline.sex == self.name


@dataclass(frozen=True, slots=True)
class IntensiveCare:
    """Whether the index stay is in intensive care by the end of the window, as the record would show it then."""

    def holds(self, context: PredicateContext) -> bool | None:
        stay, line = context.stay, context.timeline
        if stay is None or context.end is None:
            return None
        encounter = stay.source.partition("/")[2]
        record = line.record_at(context.end, encounter)
        return record.current_stay.intensive_care if record.current_stay is not None else None


@dataclass(frozen=True, slots=True)
class Before:
    """The same predicate on everything up to the prediction time."""

    part: Predicate

    def holds(self, context: PredicateContext) -> bool | None:
        past = datetime.min.replace(tzinfo=context.at.tzinfo)
        return self.part.holds(replace(context, start=past, end=context.at, inclusive=True))


@dataclass(frozen=True, slots=True)
class Recorded:
    """The same predicate, with unknown taken for no: where a site records every case, what is not recorded was not."""

    part: Predicate

    def holds(self, context: PredicateContext) -> bool | None:
        return self.part.holds(context) is True


@dataclass(frozen=True, slots=True)
class SameDay:
    """The same predicate on the rest of the day on which the index stay ended."""

    part: Predicate

    def holds(self, context: PredicateContext) -> bool | None:
        if context.stay is None or context.stay.end is None:
            return None
        end = context.stay.end
        return self.part.holds(replace(context, start=end, end=context.end_of_day(end) + timedelta(minutes=1)))


@dataclass(frozen=True, slots=True)
class LaterEvent:
    """Any event is dated after the window."""

    def holds(self, context: PredicateContext) -> bool | None:
        last = context.timeline.last
        return context.end is not None and last is not None and last > context.end
