"""Diagnosis groups and comorbidity schemes of coded conditions.

Two tables of `definitions/`: `diagnosis_groups.json` (the groups the shipped models read; ICD-9-CM, ICD-10, SNOMED CT)
and `comorbidities.yaml` (Charlson, Elixhauser and SAPS II in ICD, after Quan et al., Med Care 2005;43:1130; Charlson
also by the SNOMED CT ids of the diagnosis groups it refers to). Any other SNOMED CT disease is of the groups of its
ICD-10 code. Codes without a code system are never matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import orjson

from fhir_mapping.core.values import Coding
from fhir_mapping.terminology.codes import ICD9CM, SNOMED
from fhir_mapping.terminology.definition_files import read_yaml
from fhir_mapping.terminology.icd import icd10_of_snomed, icd_code


@dataclass(frozen=True, slots=True)
class Codes:
    """ICD codes by prefix, without dots; SNOMED CT codes by concept id."""

    icd10: tuple[str, ...]
    icd9: tuple[str, ...]
    snomed: frozenset[str] = frozenset()

    def holds(self, coding: Coding) -> bool:
        """Whether a coding is one of these.

        >>> codes = Codes(("I50",), ("428",))
        >>> codes.holds(Coding("http://hl7.org/fhir/sid/icd-10-cm", "I50.9")), codes.holds(Coding(None, "I50.9"))
        (True, False)
        """
        if coding.system == SNOMED:
            return coding.code in self.snomed or any(c.startswith(self.icd10) for c in icd10_of_snomed(coding)[0])
        code = icd_code(coding)
        return code is not None and code.startswith(self.icd9 if coding.system == ICD9CM else self.icd10)


@dataclass(frozen=True, slots=True)
class DiagnosisGroup:
    """A named group of diagnosis codes."""

    name: str
    label: str
    codes: Codes
    lace: int
    """Points in LACE's comorbidity item (van Walraven et al., CMAJ 2010;182:551)."""

    def holds(self, coding: Coding) -> bool:
        return self.codes.holds(coding)


@dataclass(frozen=True, slots=True)
class DiagnosisTable:
    """The content of `diagnosis_groups.json`."""

    groups: Mapping[str, DiagnosisGroup]
    over: Mapping[str, tuple[str, ...]]
    """Group -> lesser groups of the same disease, which a score does not count in addition."""
    pregnancy: DiagnosisGroup
    """Not a model input: adult scores are not valid for it."""
    hospice: DiagnosisGroup
    """Not a model input: all models exclude these patients."""


class Scheme(StrEnum):
    """A published comorbidity scheme."""

    CHARLSON = "charlson"
    ELIXHAUSER = "elixhauser"
    SAPS2 = "saps2"


@dataclass(frozen=True, slots=True)
class SchemeGroup:
    """A group of a scheme; `over` is the lesser grade that does not count in addition to this one."""

    name: str
    weight: int
    over: str | None
    codes: Codes

    def holds(self, coding: Coding) -> bool:
        return self.codes.holds(coding)

    @property
    def slug(self) -> str:
        """The name in feature names: `mild_liver_disease`."""
        return self.name.lower().replace(" ", "_")


@cache
def diagnosis_table() -> DiagnosisTable:
    """Returns the shipped diagnosis groups."""
    raw = orjson.loads(_definition("diagnosis_groups.json"))
    groups = {name: _diagnosis_group(name, group) for name, group in raw["groups"].items()}
    over = {name: tuple(others) for name, others in raw["over"].items()}
    return DiagnosisTable(groups, over, *(_diagnosis_group(name, raw[name]) for name in ("pregnancy", "hospice")))


def _definition(name: str) -> bytes:
    return files("fhir_mapping.definitions").joinpath(name).read_bytes()


def _diagnosis_group(name: str, raw: Mapping[str, Any]) -> DiagnosisGroup:
    codes = Codes(tuple(raw["icd10"]), tuple(raw["icd9"]), frozenset(raw["snomed"]))
    return DiagnosisGroup(name, raw["label"], codes, raw["lace"])


@cache
def scheme_groups(scheme: Scheme) -> tuple[SchemeGroup, ...]:
    """Returns the groups of a scheme in the order of its publication."""
    name = "comorbidities.yaml"
    return tuple(_group(group, raw) for group, raw in read_yaml(_definition(name), name)[scheme.value].items())


def _group(name: str, raw: Mapping[str, Any]) -> SchemeGroup:
    icd10, icd9 = (tuple(code for text in raw[key] for code in expand(text)) for key in ("icd10", "icd9"))
    known = diagnosis_table().groups
    snomed = frozenset(code for group in raw.get("snomed", ()) for code in known[group].codes.snomed)
    return SchemeGroup(name, raw["weight"], raw.get("over"), Codes(icd10, icd9, snomed))


def expand(text: str) -> Iterator[str]:
    """Yields every code prefix of a range.

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


def diagnosis_groups(codings: Iterable[Coding]) -> frozenset[str]:
    """Returns the names of the diagnosis groups that contain one of the codings."""
    return frozenset(name for coding in codings for name in _diagnoses_holding(coding))


@lru_cache(maxsize=8192)  # a hospital's problem lists repeat the same few thousand codes
def _diagnoses_holding(coding: Coding) -> tuple[str, ...]:
    return tuple(name for name, group in diagnosis_table().groups.items() if group.holds(coding))


@lru_cache(maxsize=8192)
def groups_holding(scheme: Scheme, coding: Coding) -> tuple[str, ...]:
    """Returns the names of the groups of a scheme that contain the coding."""
    return tuple(group.name for group in scheme_groups(scheme) if group.holds(coding))
