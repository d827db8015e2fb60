"""ICD codes in records, normalised: without dot, mark or national prefix.

A code that cannot be one of its classification (41.02 of ICD-9-CM, which has three digits before the point; UNK) is not
used: the disease is unknown. Maps give the ICD-10 codes of SNOMED CT diseases (`definitions/snomed_icd10.tsv`,
derived by `tools.derive_snomed_map` from published ones, and `snomed_common.tsv`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files

from fhir_mapping.core.values import Coding
from fhir_mapping.terminology.codes import ICD9CM, ICD10, ICD10CM, SNOMED

_SNOMED_FILES = ("snomed_icd10.tsv", "snomed_common.tsv")

ICD_SYSTEMS = frozenset({ICD10, ICD10CM, ICD9CM})
# The letter D of the Danish SKS before the WHO's code; after it dagger, asterisk and other marks of the WHO and of
# ICD-10-GM, or a dash for what is not specified.
_ICD10 = re.compile(r"D?([A-Z]\d[0-9AB])(?:\.?([0-9A-Z]{1,4}))?(?:\.?-)?[+*!#†]?\Z")
_ICD9 = re.compile(r"((?!000)\d{3}|V\d\d)(?:\.?(\d{1,2}))?\.?\Z|(E\d{3})(?:\.?(\d))?\.?\Z")


@lru_cache(maxsize=8192)  # a hospital's problem lists repeat the same few thousand codes
def icd_code(coding: Coding) -> str | None:
    """Returns the ICD code of a coding in capitals without dot and marks; None if it has none, or an impossible one.

    >>> icd_code(Coding(ICD10, "i50.14")), icd_code(Coding(ICD10, "DI509")), icd_code(Coding(ICD10, "E11.20+"))
    ('I5014', 'I509', 'E1120')
    >>> icd_code(Coding(ICD9CM, "410.2")), icd_code(Coding(ICD9CM, "41.02")), icd_code(Coding(ICD10CM, "UNK"))
    ('4102', None, None)
    """
    pattern = _ICD9 if coding.system == ICD9CM else _ICD10 if coding.system in ICD_SYSTEMS else None
    found = pattern.match(coding.code.strip().upper()) if pattern is not None else None
    return None if found is None else "".join(part for part in found.groups() if part)


@lru_cache(maxsize=8192)
def icd10_of_snomed(coding: Coding) -> tuple[tuple[str, ...], bool]:
    """Returns the ICD-10 codes of a SNOMED CT disease by the maps, and whether they are of the disease itself.

    Codes of a broader disease prove only that disease's group; which further groups it is in is unknown.
    """
    return _snomed_map().get(coding.code, ((), False)) if coding.system == SNOMED else ((), False)


@lru_cache(maxsize=8192)
def is_readable(coding: Coding) -> bool:
    """Whether a coding says what the disease is: an ICD code, or a SNOMED CT disease with an ICD-10 code of its own."""
    return icd_code(coding) is not None or icd10_of_snomed(coding)[1]


@cache
def _snomed_map() -> Mapping[str, tuple[tuple[str, ...], bool]]:
    found: dict[str, tuple[tuple[str, ...], bool]] = {}
    for name in _SNOMED_FILES:  # the later file takes precedence
        listed: dict[str, list[tuple[str, bool]]] = {}
        for line in files("fhir_mapping.definitions").joinpath(name).read_text("utf-8").splitlines():
            if line and not line.startswith("#"):
                identifier, code, relation = line.split("\t")[:3]
                listed.setdefault(identifier, []).append((_unspecified(code.replace(".", "")), relation == "="))
        for identifier, codes in listed.items():
            found[identifier] = (tuple(code for code, _ in codes), all(own for _, own in codes))
    return found


def _unspecified(code: str) -> str:
    """Returns the code of the unspecified form of a category: the groups list the subcategories of some."""
    return code + "9" if len(code) == 3 else code
