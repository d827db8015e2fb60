"""Selects the usable resources known at the prediction time, in standard codes and with their times."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.elements import Observation, Resource
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import ResourceEntry
from fhir_mapping.record.cutoff import Cutoff, Known
from fhir_mapping.record.patient_compartment import NOTE_TYPES, Owned
from fhir_mapping.record.result_times import ResultTimes, Times
from fhir_mapping.resources.measurements import (
    Meanings,
    Read,
    meanings_of,
    observed_at,
    observed_by,
    observed_later,
    unmapped,
    wanted,
)
from fhir_mapping.resources.modifiers import usable_part
from fhir_mapping.site_maps.site_map import SiteMap


@dataclass(frozen=True, slots=True)
class Charted:
    """The raw Observations of a record, which the MEDS export reads again, with their site map and inherited times."""

    entries: Sequence[Owned] = ()
    site: SiteMap = field(default_factory=SiteMap)
    times: Mapping[str, Times] = field(default_factory=dict)

    def known_by(self, prediction_time: datetime) -> Iterator[tuple[str, Resource]]:
        """Yields key and resource of every Observation known by then, translated, without unusable parts."""
        for source, entry in self.entries:
            times = self.times.get(source, {})
            if not observed_by(_dated(entry.observation, times), prediction_time):
                continue
            resource = usable_part(self.site.translate(entry.resource), source, [])
            if resource is not None:
                yield source, {**resource, **times} if times else resource


def restricted_cutoff(
    directory: Directory, owned: Sequence[Owned], site: SiteMap, at: datetime, *, undated_known: bool
) -> Cutoff:
    """Returns the cutoff at the prediction time; restricts the directory to what was known then."""
    encounters = {source: site.translate(entry.elements) for source, entry in owned if entry.kind == "Encounter"}
    # A proxy, since the directory holds the cutoff too: together they hold every resource, and in a circle they would
    # stay in memory until the next collection of cycles, which serving rarely makes.
    cutoff = Cutoff(encounters, weakref.proxy(directory), at, undated_known=undated_known)
    directory.restrict(lambda key, resource: cutoff.known(key, resource) is Known.YES)
    return cutoff


def cut(owned: Sequence[Owned], cutoff: Cutoff, refused: list[Refusal]) -> tuple[list[Owned], frozenset[str]]:
    """Returns what was known, and the keys of later notes, which are kept because what they replace was current then.

    Observations are not filtered here but by `select_usable`, by the times in their structs.
    """
    kept: list[Owned] = []
    later: set[str] = set()
    for source, entry in owned:
        if entry.kind == "Observation":
            kept.append((source, entry))
            continue
        answer = cutoff.known(source, entry.elements)
        if answer is Known.UNDATED:
            refused.append(Refusal(source, "encounter-not-over"))
        if answer is Known.YES or entry.kind in NOTE_TYPES:
            kept.append((source, entry))
        if answer is not Known.YES:
            later.add(source)
    return kept, frozenset(later)


@dataclass(frozen=True, slots=True)
class UsableResources:
    """A patient's resources that may be used, without Observations; refusals are added to `refused`."""

    resources: Sequence[tuple[str, Resource]]
    directory: Directory
    at: datetime
    refused: list[Refusal]

    def of_type(self, *types: str) -> list[tuple[str, Resource]]:
        return [item for item in self.resources if item[1]["resourceType"] in types]

    def values(self, reader: Callable[..., Any], *types: str) -> tuple[Any, ...]:
        """Returns what the reader makes of the resources of these types."""
        answers = [reader(resource, source, self.directory, self.at) for source, resource in self.of_type(*types)]
        self.refused.extend(answer for answer in answers if isinstance(answer, Refusal))
        return tuple(answer for answer in answers if not isinstance(answer, Refusal))


def select_usable(
    known: Sequence[Owned], site: SiteMap, cutoff: Cutoff, times: ResultTimes, refused: list[Refusal]
) -> tuple[list[Read], list[tuple[str, Resource]]]:
    """Returns the Observations of known concepts and the other resources, in standard codes, without unusable parts."""
    observations: list[Read] = []
    others: list[tuple[str, Resource]] = []
    untranslated: list[Meanings] = []
    for source, entry in known:
        if entry.kind != "Observation":
            resource = usable_part(site.translate(entry.elements), source, refused, unmodified=entry.unmodified)
            if resource is not None:
                others.append((source, resource))
            continue
        observation = entry.observation
        meanings = meanings_of(observation)
        if site.may_translate(observation, meanings):
            observation = Observation.of(site.translate(entry.resource))
            meanings = meanings_of(observation)
        is_wanted = wanted(meanings)
        if not is_wanted and any(meaning.understood for meaning in meanings):
            continue
        found = times.of(source, observation)
        if not _observed(source, entry, _dated(observation, found), cutoff, refused):
            continue
        if not is_wanted:
            untranslated.append(meanings)
        elif entry.unmodified and not observation.implicitRules:
            observations.append((source, _dated(observation, found), meanings))
        elif (usable := _usable_observation(source, entry, site, refused)) is not None:
            observations.append((source, _dated(usable, found), meanings_of(usable)))
    refused.extend(unmapped(untranslated))
    return observations, others


def _dated(observation: Observation, times: Mapping[str, Any]) -> Observation:
    return msgspec.structs.replace(observation, **times) if times else observation


def _observed(
    source: str, entry: ResourceEntry, observation: Observation, cutoff: Cutoff, refused: list[Refusal]
) -> bool:
    """Whether an Observation was known: by its times, or by its encounter if it has none."""
    if observed_later(observation, cutoff.prediction_time):
        return False
    if observed_at(observation) is None and cutoff.known(source, entry.resource) is Known.UNDATED:
        refused.append(Refusal(source, "encounter-not-over"))
        return False
    return True


def _usable_observation(source: str, entry: ResourceEntry, site: SiteMap, refused: list[Refusal]) -> Observation | None:
    """Returns the Observation without unusable parts; None if nothing of it may be used."""
    resource = usable_part(site.translate(entry.resource), source, refused, unmodified=entry.unmodified)
    return None if resource is None else Observation.of(resource)
