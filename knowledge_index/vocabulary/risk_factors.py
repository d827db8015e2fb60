"""Factors and outcomes, which relate a model's inputs and a patient's diagnoses to the literature.

`risk_factors.json` is written by this project: for each factor its label in a sentence, the MeSH headings of papers
about it, and the names under which models, scores and code groups know it (`concepts`). The order of its diseases, the
most acute first, decides between factors of equal weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import orjson

from knowledge_index.core.values import Factor, Outcome

OUTCOMES: Mapping[str, Outcome] = MappingProxyType(
    {
        "mortality": Outcome(
            "mortality",
            "mortality",
            "hospital mortality",
            ("Hospital Mortality", "Mortality", "Survival Rate", "Death", "Cause of Death"),
            ("mortality",),
        ),
        "readmission": Outcome("readmission", "readmission", "hospital readmission", ("Patient Readmission",)),
    }
)
"""The outcomes papers are about, by name; the first heading is the descriptor that seeds a search."""


SETTINGS = ("intensive_care", "ward")
"""Populations of articles that are a place of care; every other population is the name of a factor."""


@cache
def factors() -> Mapping[str, Factor]:
    """Every factor by name, in the order of `risk_factors.json`.

    >>> factors()["sodium"].label
    'serum sodium'
    """
    listed = orjson.loads(files("knowledge_index.vocabulary").joinpath("risk_factors.json").read_bytes())
    return MappingProxyType(
        {
            item["name"]: Factor(
                item["name"], item["label"], tuple(item["headings"]), tuple(item.get("concepts", (item["name"],)))
            )
            for item in listed
        }
    )


@cache
def _by_concept() -> Mapping[str, tuple[Factor, ...]]:
    found: dict[str, tuple[Factor, ...]] = {}
    for factor in factors().values():
        for concept in factor.concepts:
            found[concept] = (*found.get(concept, ()), factor)
    return MappingProxyType(found)


@cache
def _by_heading() -> Mapping[str, Factor]:
    found: dict[str, Factor] = {}
    for factor in factors().values():
        for heading in factor.headings:
            found.setdefault(heading, factor)
    return MappingProxyType(found)


def factors_of_concept(concept: str) -> tuple[Factor, ...]:
    """The factors of a model's input, a score or a group of codes, with or without the prefix of its kind.

    A group of codes has one factor for each of its diseases, and one of its own name if papers are about the group.

    >>> [factor.name for factor in factors_of_concept("mean_bp") + factors_of_concept("NEWS2")]
    ['blood_pressure', 'news2']
    >>> [factor.name for factor in factors_of_concept("reason.brain_failure")], factors_of_concept("violin")
    (['delirium', 'dementia'], ())
    """
    key = concept.casefold().replace(" ", "_")
    known = _by_concept()
    return known.get(key) or known.get(key.rpartition(".")[2], ())


def factor_of_heading(heading: str) -> Factor | None:
    """The factor that papers under a MeSH heading are about; where several share it, the first of `risk_factors.json`.

    >>> factor_of_heading("Pulmonary Disease, Chronic Obstructive").label
    'COPD'
    """
    return _by_heading().get(heading)
