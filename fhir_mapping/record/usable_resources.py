"""Of the resources known at the prediction time, those that may be used, in standard codes and with their times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.elements import Observation, Resource
from fhir_mapping.parsing.resource_reader import ResourceEntry
from fhir_mapping.record.cutoff import Cutoff, Known
from fhir_mapping.record.patient_compartment import Owned
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
from fhir_mapping.resources.site_maps import SiteMap


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
