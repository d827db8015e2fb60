"""Reads Encounters (R4, R5) into stays: parts and adjoining inpatient encounters are one; later ends are not shown.

FHIR R4 Encounter (https://hl7.org/fhir/R4/encounter.html) and R5 (https://hl7.org/fhir/R5/encounter.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from fhir_mapping.core.values import Instant, Refusal, Stay, StayClass, UndatedEncounter
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import Resource
from fhir_mapping.resources.encounter_classes import period_of
from fhir_mapping.resources.encounters import ReadEncounter, read_encounter

_EMERGENCY_WINDOW = timedelta(hours=24)
_TO_HOSPITAL = "hospital"
_TRANSFER_GAP = timedelta(hours=6)
# Visits in person, whose values are not those of an inpatient stay they began in.
_VISITS = frozenset({StayClass.OUTPATIENT, StayClass.EMERGENCY})
# Two inpatient encounters that begin within a day are one admission registered twice.
_SAME_ADMISSION = timedelta(days=1)
# An encounter open for longer, with a later one of its own beside it, was never closed: most stays are over by then.
_NEVER_CLOSED = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class StaysRead:
    """The stays started by the prediction time, oldest first; each Encounter's stay, by key; the Encounters before they
    are combined; the refusals; and the Encounters without a start."""

    stays: tuple[Stay, ...]
    members: Mapping[str, str]
    encounters: tuple[Stay, ...]
    refused: tuple[Refusal, ...]
    undated: tuple[UndatedEncounter, ...]
    _parents: Mapping[str, str | None]

    def other_visits(self, current: Stay) -> frozenset[str]:
        """Returns the keys of the visits in person that began during a stay and are neither part of it nor led to it.

        Home and virtual visits are left out, and encounters whose class is not understood: what they record is, or may
        be, measured on the inpatient.
        """
        by_source = {stay.source: stay for stay in self.stays}
        found = set()
        for key, root in self.members.items():
            visit = by_source.get(root)
            if visit is None or root == current.source or visit.remote or visit.stay_class not in _VISITS:
                continue
            inside = visit.start >= current.start and (current.end is None or visit.start <= current.end)
            if inside and not leads_to(visit, current) and not self._related(key, current.source):
                found.add(key)
        return frozenset(found)

    def _related(self, key: str, stay: str) -> bool:
        """Whether an encounter is part of a stay, or the stay part of it."""
        return stay in self._ancestors(key) or any(
            key in self._ancestors(member) for member, root in self.members.items() if root == stay
        )

    def _ancestors(self, key: str) -> set[str]:
        found: set[str] = set()
        parent = self._parents.get(key)
        while parent is not None and parent not in found:
            found.add(parent)
            found.add(self.members.get(parent, parent))
            parent = self._parents.get(parent)
        return found


def read_stays(
    encounters: Sequence[tuple[str, Resource]],
    directory: Directory,
    prediction_time: datetime,
    asked: str | None = None,
    *,
    current: bool = False,
) -> StaysRead:
    """Returns the stays started by `prediction_time`. `asked` is the key of the Encounter the caller asks about.

    `current` means that the data were fetched at `prediction_time`.
    """
    refused: list[Refusal] = []
    undated: list[UndatedEncounter] = []
    read: dict[str, ReadEncounter] = {}
    for source, resource in encounters:
        encounter = read_encounter(resource, source, directory, prediction_time, current=current)
        if isinstance(encounter, Refusal):
            refused.append(encounter)
        elif isinstance(encounter, UndatedEncounter):
            undated.append(encounter)
            refused.append(Refusal(source, "no-start"))
        elif encounter is not None:
            read[source] = encounter
            if encounter.stay.length_unknown is not None:
                refused.append(Refusal(source, encounter.stay.length_unknown))
            if encounter.flagged:
                refused.append(Refusal(source, "time-without-zone", "read as UTC"))
    roots = {source: _root(source, read) for source in read}
    parts: dict[str, list[Stay]] = {}
    for source, root in roots.items():
        parts.setdefault(root, []).append(read[source].stay)
    stays = [_with_parts(read[root].stay, members) for root, members in parts.items()]
    for root in parts:
        stays.extend(read[root].earlier)
        if (reason := read[root].stay.class_unknown) is not None:
            refused.append(Refusal(root, reason, read[root].class_written))
    view = _View(prediction_time, asked)
    merged, joined = _join_adjoining(sorted(stays, key=lambda stay: (stay.start, stay.source)), view)
    unclosed = [s.source for s in merged if s.length_unknown == "no-end" and read[s.source].stay.running]
    refused.extend(Refusal(source, "no-end") for source in unclosed)
    return StaysRead(
        tuple(_with_inferred_acute(merged)),
        {source: joined.get(root, root) for source, root in roots.items()},
        tuple(encounter.stay for encounter in read.values()),
        tuple(refused),
        tuple(undated),
        {source: encounter.stay.part_of for source, encounter in read.items()},
    )


def _root(source: str, read: dict[str, ReadEncounter]) -> str:
    """Returns the outermost Encounter this one is part of; of a loop, the alphabetically first.

    An admission that is part of the emergency visit it came from is a separate stay, and an emergency visit that is
    part of the admission it led to remains a visit. An admission that starts when the Encounter named in `partOf` has
    ended is a separate stay: some systems link readmissions so.
    """
    path = [source]
    parent = read[source].stay.part_of
    while parent in read and not _is_separate(read[path[-1]].stay, read[parent].stay):
        if parent in path:
            return min(path[path.index(parent) :])
        path.append(parent)
        parent = read[parent].stay.part_of
    return path[-1]


def _is_separate(stay: Stay, parent: Stay) -> bool:
    emergency = stay.stay_class is StayClass.EMERGENCY and parent.stay_class is StayClass.INPATIENT
    admission = stay.stay_class is StayClass.INPATIENT and parent.stay_class is not StayClass.INPATIENT
    readmission = stay.stay_class is StayClass.INPATIENT and parent.end is not None and stay.start >= parent.end
    return emergency or admission or readmission


def _with_parts(stay: Stay, parts: list[Stay]) -> Stay:
    if any(part.intensive_care for part in parts):
        return replace(stay, intensive_care=True)
    return stay


class _View(NamedTuple):
    """What decides, besides the two encounters, whether they are one stay."""

    prediction_time: datetime
    asked: str | None

    def never_closed(self, stay: Stay, beside: Stay) -> bool:
        """Whether an open stay was left open by mistake, given an encounter of its own beside it."""
        if self.prediction_time - stay.start > _NEVER_CLOSED:
            return True
        return beside.source == self.asked and not beside.running


def _join_adjoining(stays: list[Stay], view: _View) -> tuple[list[Stay], dict[str, str]]:
    """Joins inpatient encounters that overlap or adjoin into one stay: a transfer is not a readmission.

    An encounter within six hours is joined too if either side codes a transfer between hospitals. An encounter that
    was never closed does not take in those that follow: its end is unknown. Also returns joined key -> key of the stay.
    """
    merged: list[Stay] = []
    joined: dict[str, str] = {}
    last: int | None = None  # the position of the latest inpatient stay
    for stay in stays:
        if stay.stay_class is not StayClass.INPATIENT:
            merged.append(stay)
            continue
        if last is not None and _adjoin(merged[last], stay, view):
            joined[stay.source] = merged[last].source
            merged[last] = _join(merged[last], stay, view)
            continue
        if last is not None and merged[last].running:
            merged[last] = replace(merged[last], length_unknown="no-end")
        last = len(merged)
        merged.append(stay)
    return merged, joined


def _adjoin(first: Stay, second: Stay, view: _View) -> bool:
    if first.running:
        return second.start - first.start <= _SAME_ADMISSION or not view.never_closed(first, second)
    if first.end is None:
        return False
    transferred = first.destination == _TO_HOSPITAL or second.origin == "hospital_transfer"
    return second.start <= first.end + (_TRANSFER_GAP if transferred else timedelta())


def _join(first: Stay, second: Stay, view: _View) -> Stay:
    """Returns one stay for two encounters: it ends as the later of them does."""
    last = _ends_with(first, second, view)
    return replace(
        first,
        end=last.end,
        end_span=last.end_span,
        length_unknown=last.length_unknown,
        codings=first.codings + second.codings,
        reasons=tuple(dict.fromkeys(first.reasons + second.reasons)),
        reason_texts=tuple(dict.fromkeys(first.reason_texts + second.reason_texts)),
        intensive_care=True if second.intensive_care else first.intensive_care,
        discharge_disposition=last.discharge_disposition,
        destination=last.destination,
        unknown={**first.unknown, "discharge_disposition": last.unknown.get("discharge_disposition", "")},
    )


def _ends_with(first: Stay, second: Stay, view: _View) -> Stay:
    """Returns the encounter with which a stay of two ends; an open one if the stay is still running."""
    if first.running:
        return second if second.running or view.never_closed(first, second) else first
    if second.running:
        inside = first.end is not None and second.start < first.end - _SAME_ADMISSION
        return first if inside and view.never_closed(second, first) else second
    if first.end is None or second.end is None:
        return second
    if first.end == second.end:  # two accounts of one discharge
        return second if second.discharge_disposition else first
    return max(first, second, key=lambda stay: stay.end or stay.start)


def _with_inferred_acute(stays: list[Stay]) -> Iterator[Stay]:
    """Yields the stays; an admission not coded as acute or elective is acute within 24 hours of an emergency visit."""
    emergencies = [stay for stay in stays if stay.stay_class is StayClass.EMERGENCY]
    for stay in stays:
        if (
            stay.stay_class is StayClass.INPATIENT
            and stay.acute is None
            and any(leads_to(e, stay) for e in emergencies)
        ):
            yield replace(stay, acute=True)
        else:
            yield stay


def leads_to(visit: Stay, stay: Stay) -> bool:
    """Whether a stay starts during an emergency visit or within 24 hours of its end (of its start if it has none)."""
    return visit.start <= stay.start <= (visit.end or visit.start) + _EMERGENCY_WINDOW


def starts_stay(resource: Resource) -> Instant | None:
    """Returns the start of an Encounter, or None."""
    return period_of(resource)[0]
