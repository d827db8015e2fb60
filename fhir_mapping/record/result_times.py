"""Times of Observations that have none of their own: from the report or panel that lists them, else from the specimen.

A result without a time is dated by what lists it: the DiagnosticReport says when its results apply and when they were
issued. A report that was not known at the prediction time dates nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fhir_mapping.core.times import parse_instant, reachable
from fhir_mapping.parsing.elements import Observation, Resource
from fhir_mapping.parsing.references import Directory
from fhir_mapping.record.patient_compartment import Owned
from fhir_mapping.resources.measurements import observed_at

TIMES = ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued")
_NEVER = frozenset({"entered-in-error", "cancelled"})
Times = Mapping[str, Any]
_NOTHING: Times = {}


class ResultTimes:
    """ResultTimes(known, later, directory, prediction_time).of("Observation/o1", observation) -> elements to add

    The reports are searched only when there is a result without a time.
    """

    def __init__(
        self, known: Sequence[Owned], later: frozenset[str], directory: Directory, prediction_time: datetime
    ) -> None:
        self._known = known
        self._later = later
        self._directory = directory
        self._prediction_time = prediction_time
        self._listed: dict[str, Resource] | None = None
        self.settled: dict[str, Times] = {}
        """Observation -> the elements it was given."""

    def of(self, source: str, observation: Observation) -> Times:
        """Returns the elements that date an Observation; none if it has a time or nothing dates it."""
        if observation.effectiveDateTime is not None or _has_time(observation):
            return _NOTHING
        found: Times = {name: value for name, value in self._lister(source).items() if name in TIMES}
        if not found:
            found = self._drawn(observation)
        if found:
            self.settled[source] = found
        return found

    def _lister(self, source: str) -> Resource:
        if self._listed is None:
            self._listed = {}
            for member, times in self._members():
                kept = self._listed.get(member)
                if kept is None or _latest(times) > _latest(kept):
                    self._listed[member] = times
        return self._listed.get(source, {})

    def _members(self) -> Iterator[tuple[str, Resource]]:
        """Yields each result of the reports and panels known by then, with the times of what lists it."""
        for source, entry in self._known:
            if entry.kind == "DiagnosticReport":
                elements: Resource = entry.elements
                members = elements.get("result")
            elif entry.kind == "Observation" and entry.observation.hasMember:
                panel = entry.observation
                elements = {"status": panel.status} | {name: getattr(panel, name) for name in TIMES}
                members = panel.hasMember
            else:
                continue
            status = elements.get("status")
            if source in self._later or (isinstance(status, str) and status in _NEVER):
                continue
            times = {name: elements[name] for name in TIMES if elements.get(name) is not None}
            if times and _known_by(times, self._prediction_time):
                for member in members if isinstance(members, list) else ():
                    key = self._directory.key(member)
                    if key is not None:
                        yield key, times

    def _drawn(self, observation: Observation) -> Times:
        """Returns when the specimen was collected, as the effective time."""
        reference = observation.specimen
        specimen = self._directory.resolve(reference, {"contained": observation.contained}) if reference else None
        collection = specimen.get("collection") if specimen is not None else None
        if not isinstance(collection, dict):
            return {}
        for name, element in (("collectedDateTime", "effectiveDateTime"), ("collectedPeriod", "effectivePeriod")):
            if collection.get(name) is not None:
                return {element: collection[name]}
        return {}


def _has_time(observation: Observation) -> bool:
    return (
        observation.issued is not None
        or observation.effectivePeriod is not None
        or observation.effectiveInstant is not None
        or observation.effectiveTiming is not None
    )


def _latest(times: Times) -> datetime:
    """Returns the clinical time; if several reports or panels list a result, the latest time, so that it never looks
    older."""
    at = observed_at(Observation.of(dict(times)))
    return datetime.min.replace(tzinfo=UTC) if at is None else at.latest


def _known_by(times: Times, prediction_time: datetime) -> bool:
    found = [parse_instant(times.get("issued")), observed_at(Observation.of(dict(times)))]
    return all(instant is None or reachable(instant, prediction_time) for instant in found)
