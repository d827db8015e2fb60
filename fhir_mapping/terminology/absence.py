"""Codes and words that state that there is nothing, or that nothing is known: they are not conditions or drugs.

`no-known-*` of the International Patient Summary and SNOMED CT 160245001 say that there is none. `no-*-info`, a data
absent reason or a null flavor say that nothing is known: that is unknown, not none.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

from fhir_mapping.core.values import Coding
from fhir_mapping.terminology.codes import DATA_ABSENT, NULL_FLAVOR, SNOMED


class Absence(StrEnum):
    """What is stated instead of a condition, drug or procedure."""

    NONE = "stated-none"
    """That there is none."""
    UNKNOWN = "no-information"
    """That it is not known whether there is any."""


_IPS = re.compile(r"/CodeSystem/absent-unknown(?:-uv-ips)?\Z", re.IGNORECASE)
_EMPTY_LIST = re.compile(r"/(?:CodeSystem/)?list-empty-reason\Z")
_IPS_CODE = re.compile(r"no-(?:known-)?[a-z-]+?(-info)?\Z")
_NONE = frozenset({
    "160245001",  # no current problems or disability
    "787481004", "787480003", "787483001", "787482006",  # no known medications, procedures, devices, immunizations
    "716186003", "409137002", "428607008", "429625007",  # no known allergy: none of them a problem
    "1631000175102", "182849000",  # patient not on any medication, no drug therapy prescribed
})  # fmt: skip
_UNKNOWN = frozenset({"261665006", "373068000", "182904002"})  # unknown, undetermined, drug treatment unknown
_THING = (
    r"(?:problems?|conditions?|diagnos[ei]s|medications?|medicines?|drugs?|drug therapy|procedures?|diseases?|"
    r"disability)"
)
_KIND = r"(?:known|current|active|ongoing|relevant|significant|chronic|regular|home|other)"
_WORDS_NONE = re.compile(
    rf"(?:there are )?(?:no|none)(?: {_KIND})* {_THING}(?: (?:or|and) \w+)?"
    rf"(?: (?:known|reported|recorded|listed|at present|currently))?\Z|"
    rf"(?:patient )?(?:takes|taking|not on|on|is not on|does not take) (?:no|any) {_THING}\Z|"
    rf"none(?: known| reported)?\Z|nil(?: known)?\Z",
    re.IGNORECASE,
)
_WORDS_UNKNOWN = re.compile(
    rf"no information (?:about|on|available)\b.*|{_THING} (?:not known|unknown|not available)\Z|"
    rf"(?:unknown|not known|not available|no information|information not available|asked but unknown)\Z",
    re.IGNORECASE,
)


@lru_cache(maxsize=8192)
def absence_of(codings: tuple[Coding, ...], text: str) -> Absence | None:
    """Returns what codes or text state instead of a condition, drug or procedure; None for a real one.

    >>> absence_of((), "No known medications"), absence_of((), "Information not available"), absence_of((), "Asthma")
    (<Absence.NONE: 'stated-none'>, <Absence.UNKNOWN: 'no-information'>, None)
    """
    stated = [state for coding in codings if (state := _of_code(coding)) is not None]
    real = len(stated) < len(codings)
    if Absence.UNKNOWN in stated and real:  # explains one missing coding; another is there
        stated = [state for state in stated if state is not Absence.UNKNOWN]
    if stated:
        return stated[0]
    return _of_words(text)


def _of_code(coding: Coding) -> Absence | None:
    system, code = coding.system or "", coding.code
    if system == SNOMED:
        return Absence.NONE if code in _NONE else Absence.UNKNOWN if code in _UNKNOWN else None
    if system in {DATA_ABSENT, NULL_FLAVOR}:
        return Absence.UNKNOWN
    if _EMPTY_LIST.search(system):
        return Absence.NONE if code == "nilknown" else Absence.UNKNOWN
    found = _IPS_CODE.match(code) if _IPS.search(system) else None
    return None if found is None else Absence.UNKNOWN if found[1] else Absence.NONE


def _of_words(text: str) -> Absence | None:
    plain = " ".join(text.split()).rstrip(".")
    return Absence.NONE if _WORDS_NONE.match(plain) else Absence.UNKNOWN if _WORDS_UNKNOWN.match(plain) else None
