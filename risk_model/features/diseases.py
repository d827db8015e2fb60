"""The reason of a stay and other diagnoses as about sixty diseases by ICD category (ICD-9-CM or ICD-10).

`reason.<disease>` is 1 for the disease of the stay's reason, `disease.<disease>` for one among reasons and active
problems, else 0. Without ICD codes they are unknown, not 0: a chart in SNOMED CT has no such inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

import yaml

from fhir_mapping import Coding, PatientRecord
from fhir_mapping.record import current_problems
from fhir_mapping.terminology import ICD9CM, icd_code

REASON, DISEASE = "reason.", "disease."
_CATEGORY = 3  # characters of a code
Ranges = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Disease:
    """A disease: first and last category of each range, by code system."""

    name: str
    label: str
    icd9: Ranges
    icd10: Ranges


@cache
def diseases() -> Mapping[str, Disease]:
    """Returns the diseases by name, in the order in which a code is looked up."""
    raw = yaml.safe_load(files("risk_model.tables").joinpath("disease_categories.yaml").read_text("utf-8"))
    made = [Disease(item["name"], item["label"], _ranges(item["icd9"]), _ranges(item["icd10"])) for item in raw]
    return {disease.name: disease for disease in made}


def _ranges(written: Iterable[str]) -> Ranges:
    parts = [str(item).split("-") for item in written]
    return tuple((part[0].zfill(_CATEGORY), part[-1].zfill(_CATEGORY)) for part in parts)


@cache
def disease_names() -> tuple[str, ...]:
    """Returns the names of all inputs of this module."""
    return tuple(kind + name for kind in (REASON, DISEASE) for name in diseases())


@lru_cache(maxsize=20_000)
def disease_of(system: str | None, code: str) -> str | None:
    """Returns the disease of a code, or None.

    >>> from fhir_mapping.terminology.codes import ICD9CM, ICD10CM
    >>> disease_of(ICD9CM, "428.0"), disease_of(ICD10CM, "I50.9"), disease_of(ICD9CM, "008")
    ('heart_failure', 'heart_failure', 'infection')
    >>> disease_of("http://snomed.info/sct", "84114007") is None
    True
    """
    known = icd_code(Coding(system, code))
    if known is None:
        return None
    category = known[:_CATEGORY]
    for disease in diseases().values():
        if any(first <= category <= last for first, last in (disease.icd9 if system == ICD9CM else disease.icd10)):
            return disease.name
    return None


def disease_inputs(record: PatientRecord) -> dict[str, float]:
    """Returns every known input: name -> 0 or 1."""
    reasons = _of(record.current_stay.reasons if record.current_stay else ())
    listed = _of(coding for _, codings in current_problems(record) for coding in codings)
    found: dict[str, float] = {}
    for kind, present, known in ((REASON, reasons, reasons), (DISEASE, reasons | listed, listed)):
        if known:
            found |= {kind + name: float(name in present) for name in diseases()}
    return found


def disease_sources(record: PatientRecord, name: str) -> tuple[str, ...]:
    """Returns the resources that hold the disease of an input."""
    kind, _, wanted = name.partition(".")
    if f"{kind}." == REASON:
        return (record.current_stay.source,) if record.current_stay is not None else ()
    return tuple(source for source, codings in current_problems(record) if wanted in _of(codings))


def _of(codings: Iterable[Coding]) -> set[str]:
    return {name for coding in codings if (name := disease_of(coding.system, coding.code)) is not None}
