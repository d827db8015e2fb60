"""Reads birth date, sex and death from Patient, as known at `prediction_time`, with reasons for unknown ones.

FHIR R4 Patient (https://hl7.org/fhir/R4/patient.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fhir_mapping.core.times import absent, moment, parse_instant, reachable
from fhir_mapping.core.values import Instant, Refusal
from fhir_mapping.parsing.resource_reader import Resource
from fhir_mapping.terminology.codes import is_set

_SEXES = frozenset({"female", "male", "other"})


@dataclass(frozen=True, slots=True)
class Demographics:
    """Birth date, sex and time of death. `unknown` has the reason code if `birth` or `sex` is None."""

    birth: Instant | None = None
    sex: str | None = None
    deceased: datetime | None = None
    perhaps_deceased: bool = False
    """Recorded as dead without a time, or with one too imprecise to be before or after the prediction time."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    death: Instant | None = None
    """The death with its precision; also one whose date has begun and is not over by the prediction time."""


def read_demographics(
    patient: Resource, source: str, prediction_time: datetime, refused: list[Refusal]
) -> Demographics:
    """Returns the demographics of a Patient. Nothing of it is used if it has a modifierExtension or implicitRules."""
    if patient.get("modifierExtension") or patient.get("implicitRules"):
        reason = "modifier-extension" if patient.get("modifierExtension") else "implicit-rules"
        refused.append(Refusal(source, reason))
        return Demographics(unknown={"birth": reason, "sex": reason})
    unknown: dict[str, str] = {}
    birth = parse_instant(patient.get("birthDate"))
    if absent(patient, "birthDate"):
        unknown["birth"] = "data-absent" if birth is None else "value-and-absent-reason"
        birth = None
    elif birth is None:
        unknown["birth"] = "time-not-understood" if patient.get("birthDate") else "none-found"
    sex = patient.get("gender")
    if not isinstance(sex, str) or sex not in _SEXES:
        unknown["sex"] = "none-found" if sex is None else "data-absent" if sex == "unknown" else "code-not-understood"
        sex = None
    refused.extend(Refusal(source, reason, name) for name, reason in unknown.items() if reason != "none-found")
    died = parse_instant(patient.get("deceasedDateTime"))
    known = died is not None and reachable(died, prediction_time)
    undated = died is None and (is_set(patient.get("deceasedBoolean")) or bool(patient.get("deceasedDateTime")))
    unclear = died is not None and not known and died.earliest <= prediction_time
    if undated or unclear:
        refused.append(Refusal(source, "death-without-time" if undated else "death-time-imprecise"))
    death = died if known or unclear else None
    return Demographics(birth, sex, moment(died) if known and died else None, undated or unclear, unknown, death)
