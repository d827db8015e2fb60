"""Tells vasopressor infusions from other uses of the same drugs, by the words and ingredients of orders and doses.

SOFA counts adrenergic agents given for at least one hour (Vincent et al., Intensive Care Med 1996). Epinephrine is also
an auto-injector, an addition to local anaesthetics, an inhalation and eye drops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from enum import Enum, auto

from fhir_mapping import Coding, PatientRecord

_INFUSED_ONLY = re.compile(r"\b(norepinephrine|noradrenaline?|levophed|dopamine|dobutamine)\b", re.IGNORECASE)
_EPINEPHRINE = re.compile(r"\b(epinephrine|adrenaline?)\b", re.IGNORECASE)
_INFUSED_ONLY_CODES, _EPINEPHRINE_CODE = frozenset({"7512", "3628", "3616"}), "3992"  # RxNorm ingredients
_INFUSION = re.compile(
    r"\b(infusions?|drip|gtt|continuous|perfusor)\b|/\s*(kg/)?(min|hr?|hour)\b|"
    r"\bin (dextrose|sodium chloride|ns|d5w)\b|\b(50|100|250|500) ?ml\b",
    re.IGNORECASE,
)
_NO_INFUSION = re.compile(
    r"auto-?\s?injector|\bepi-?pen|\bauvi-?q|\bsymjepi|\badrenaclick|\bjext\b|\bemerade|\bneffy\b|\bpens?\b|"
    r"\b(pre-?filled|injection) syringe|anaphyla|\w*caine\b|inhal|nebuli[sz]|\baerosol|racemic|"
    r"racepinephrine|primatene|ophthalmic|\beye\b|intraocular|\bnasal|\btopical|\bdental|\bcartridge|\bgel\b|\bcream\b|\bpatch\b|"
    r"\bintramuscular|\bsubcutaneous|\bintradermal|\binfiltration|\b(im|sc|sq|subq)\b|\boral\b|\btablet|"
    r"agonist|antagonist|reuptake|inhibitor|transporter|\ballerg|\bscan\b|\bstress\b",
    re.IGNORECASE,
)


class Vasopressor(Enum):
    """Whether a vasopressor is infused."""

    NONE = auto()
    POSSIBLE = auto()
    """Epinephrine without a word on how it is given."""
    INFUSED = auto()


def vasopressor(record: PatientRecord, since: datetime) -> Vasopressor:
    """Returns whether an active order, or a dose given from `since` on, is an infusion of a vasopressor."""
    orders = [(m.text, m.codings) for m in record.medications if m.active]
    doses = [(a.text, a.codings) for a in record.administrations if a.time >= since]
    found = {_kind(text, codings) for text, codings in (*orders, *doses)}
    return max(found, key=lambda kind: kind.value, default=Vasopressor.NONE)


def _kind(text: str, codings: Iterable[Coding]) -> Vasopressor:
    """Returns what one drug is, by its text and the names of its codes."""
    listed = list(codings)
    words = " | ".join([text, *(coding.display for coding in listed if coding.display)])
    codes = {coding.code for coding in listed}
    infused_only = bool(_INFUSED_ONLY.search(words)) or not codes.isdisjoint(_INFUSED_ONLY_CODES)
    epinephrine = bool(_EPINEPHRINE.search(words)) or _EPINEPHRINE_CODE in codes
    if not (infused_only or epinephrine) or _NO_INFUSION.search(words):
        return Vasopressor.NONE
    return Vasopressor.INFUSED if infused_only or _INFUSION.search(words) else Vasopressor.POSSIBLE
