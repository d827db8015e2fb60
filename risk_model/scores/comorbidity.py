"""Charlson and Elixhauser: what a patient has had, weighed. Groups by ICD code (Quan et al., Med Care 2005;43:1130)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from fhir_mapping import Coding, PatientRecord
from fhir_mapping.codes import ICD9CM, ICD10CM
from risk_model.scores.items import Item, adult, total
from risk_model.values import ScoreResult

_ICD10 = frozenset({ICD10CM, "http://hl7.org/fhir/sid/icd-10"})
_ICD9 = frozenset({ICD9CM})


class Scheme(StrEnum):
    CHARLSON = "charlson"
    ELIXHAUSER = "elixhauser"
    SAPS2 = "saps2"


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    weight: int
    over: str | None
    icd10: tuple[str, ...]
    icd9: tuple[str, ...]

    def holds(self, coding: Coding) -> bool:
        bare = coding.code.replace(".", "").upper()
        if coding.system in _ICD10:
            return bare.startswith(self.icd10)
        return coding.system in _ICD9 and bare.startswith(self.icd9)


@dataclass(frozen=True, slots=True)
class Found:
    """Weights of the groups a patient is in, the lesser of two grades left out.

    `unknown` counts the conditions coded in no ICD: any of them might belong to any group. It is -1 where the problem
    list was not fetched at all.
    """

    weights: Mapping[str, int]
    unknown: int


def groups_of(record: PatientRecord, scheme: Scheme) -> Found:
    """The groups of a record's problems (active, or without an end) and of the reasons of its stay."""
    codings = [list(condition.codings) for condition in record.conditions if condition.active or not condition.abated]
    if record.current_stay is not None and record.current_stay.reasons:
        codings.append(list(record.current_stay.reasons))
    readable = [[c for c in several if c.system in _ICD10 | _ICD9] for several in codings]
    found = {group for several in readable for coding in several for group in table(scheme) if group.holds(coding)}
    lesser = {group.over for group in found}
    weights = {g.name: g.weight for g in table(scheme) if g in found and g.name not in lesser}
    missing = "Condition" in record.not_fetched
    return Found(weights, -1 if missing else sum(not several for several in readable))


@cache
def table(scheme: Scheme) -> tuple[Group, ...]:
    """The groups of a scheme in the order of its publication."""
    raw = yaml.safe_load(files("risk_model.tables").joinpath("comorbidities.yaml").read_bytes())[scheme.value]
    return tuple(_group(name, entry) for name, entry in raw.items())


def _group(name: str, raw: Mapping[str, Any]) -> Group:
    icd10, icd9 = (tuple(code for text in raw[key] for code in expand(text)) for key in ("icd10", "icd9"))
    return Group(name, raw["weight"], raw.get("over"), icd10, icd9)


def expand(text: str) -> Iterator[str]:
    """Every prefix of a range.

    >>> list(expand("I67-I70")), list(expand("4254-4256")), list(expand("E87"))
    (['I67', 'I68', 'I69', 'I70'], ['4254', '4255', '4256'], ['E87'])
    """
    first, _, last = text.partition("-")
    if not last:
        yield first
        return
    letter = first[0] if first[0].isalpha() else ""
    width = len(first) - len(letter)
    for number in range(int(first[len(letter) :]), int(last[len(letter) :]) + 1):
        yield f"{letter}{number:0{width}d}"


def charlson(record: PatientRecord) -> ScoreResult | None:
    """Charlson 0-29 (Charlson et al., J Chronic Dis 1987;40:373), without the points for age. For adults.

    Conditions in a code system other than ICD make it a range: they may belong to any group.
    """
    return _score(record, Scheme.CHARLSON, "Charlson", "Charlson et al., 1987; Quan et al., 2005", _charlson_band)


def elixhauser(record: PatientRecord) -> ScoreResult | None:
    """Elixhauser -19..85 with the weights of van Walraven et al., Med Care 2009;47:626. For adults.

    A metastatic cancer takes the place of the solid tumour, as Elixhauser defined the groups (the 89 one reads for the
    maximum counts both).
    """
    return _score(record, Scheme.ELIXHAUSER, "Elixhauser (van Walraven)", "van Walraven et al., 2009", None)


def _charlson_band(points: int) -> str:
    return "severe" if points >= 5 else "moderate" if points >= 3 else "mild" if points >= 1 else "none"


def _score(
    record: PatientRecord, scheme: Scheme, name: str, source: str, band: Callable[[int], str] | None
) -> ScoreResult | None:
    if not adult(record.features(), 18):
        return None
    found = groups_of(record, scheme)
    items = [Item(group, "recorded", weight) for group, weight in found.weights.items()]
    low, high = extremes(scheme, frozenset(found.weights))
    if found.unknown:
        what = "conditions" if found.unknown < 0 else f"{found.unknown} conditions in no ICD code"
        items.append(Item(what, "", None, low, high))
    return total(name, maximum(scheme), items, band, source)


@cache
def maximum(scheme: Scheme) -> int:
    """The most points there are.

    >>> maximum(Scheme.CHARLSON), maximum(Scheme.ELIXHAUSER)
    (29, 85)
    """
    return extremes(scheme, frozenset())[1]


@cache
def extremes(scheme: Scheme, known: frozenset[str]) -> tuple[int, int]:
    """The fewest and the most points that groups not known yet could add, a graver grade taking the lesser's place."""
    groups = {group.name: group for group in table(scheme)}
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
