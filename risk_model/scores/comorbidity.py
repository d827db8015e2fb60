"""Charlson and Elixhauser comorbidity scores. Groups by ICD code (Quan et al., Med Care 2005;43:1130)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from fhir_mapping import PatientRecord
from fhir_mapping.record import comorbidity_groups
from fhir_mapping.terminology import Scheme, scheme_groups
from risk_model.core.values import ScoreResult
from risk_model.scores.items import ScoreItem, adult, total


def charlson(record: PatientRecord) -> ScoreResult | None:
    """Charlson score 0-29 (Charlson et al., J Chronic Dis 1987;40:373), without the points for age. For adults.

    Conditions in a code system other than ICD make it a range: they could belong to any group.
    """
    return _score(record, Scheme.CHARLSON, "Charlson", "Charlson et al., 1987; Quan et al., 2005", _charlson_band)


def elixhauser(record: PatientRecord) -> ScoreResult | None:
    """Elixhauser score -19..85 with the weights of van Walraven et al., Med Care 2009;47:626. For adults.

    A metastatic cancer replaces the solid tumour, as Elixhauser defined the groups (the maximum of 89 found elsewhere
    counts both).
    """
    return _score(record, Scheme.ELIXHAUSER, "Elixhauser (van Walraven)", "van Walraven et al., 2009", None)


def _charlson_band(points: int) -> str:
    return "severe" if points >= 5 else "moderate" if points >= 3 else "mild" if points >= 1 else "none"


def _score(
    record: PatientRecord, scheme: Scheme, name: str, source: str, band: Callable[[int], str] | None
) -> ScoreResult | None:
    if not adult(record.features(), 18):
        return None
    found = comorbidity_groups(record, scheme)
    items = [ScoreItem(group, "recorded", weight) for group, weight in found.weights.items()]
    low, high = extremes(scheme, frozenset(found.weights))
    if found.unknown:
        what = "conditions" if found.unknown < 0 else f"{found.unknown} conditions of an unknown code"
        items.append(ScoreItem(what, "", None, low, high))
    return total(name, maximum(scheme), items, band, source)


@cache
def maximum(scheme: Scheme) -> int:
    """Returns the maximum score.

    >>> maximum(Scheme.CHARLSON), maximum(Scheme.ELIXHAUSER)
    (29, 85)
    """
    return extremes(scheme, frozenset())[1]


@cache
def extremes(scheme: Scheme, known: frozenset[str]) -> tuple[int, int]:
    """Returns the fewest and the most points that groups not known yet could add; a graver grade replaces the
    lesser."""
    groups = {group.name: group for group in scheme_groups(scheme)}
    low = high = 0
    graver = {group.over: group for group in groups.values() if group.over}
    for name, group in groups.items():
        if name in known:
            continue
        above = graver.get(name)
        if above is not None:
            continue  # counted with its graver grade
        replaced = groups[group.over].weight if group.over in known else 0
        lesser = groups[group.over].weight if group.over and group.over not in known else 0
        choices = [0, group.weight - replaced, *([lesser] if group.over and group.over not in known else [])]
        low, high = low + min(choices), high + max(choices)
    return low, high
