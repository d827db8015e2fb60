"""Reads Condition, medication and Procedure resources into values, as known at `prediction_time`.

The cutoff has removed later resources; the readers remove later changes, such as ends and abatements.

FHIR R4 Condition, MedicationRequest, MedicationStatement, Procedure (https://hl7.org/fhir/R4/resourcelist.html).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from fhir_mapping.core.reasons import status_reason
from fhir_mapping.core.times import absent, moment, parse_instant, reachable
from fhir_mapping.core.values import Administration, Coding, Condition, Instant, Medication, Procedure, Refusal
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import Resource
from fhir_mapping.resources.courses import adherence, in_use, status_is_of, validity_end
from fhir_mapping.resources.quantities import finite
from fhir_mapping.terminology.absence import Absence, absence_of
from fhir_mapping.terminology.codes import ICD9CM, codings, is_set, status_values, text_of
from fhir_mapping.terminology.icd import icd_code

_INACTIVE = frozenset({"inactive", "remission", "resolved"})
_NOT_VERIFIED = ("entered-in-error", "refuted", "provisional", "differential", "unconfirmed")
# Problem lists also contain family history and unconfirmed problems, marked by words at the start or end of the text.
_RELATIVE = r"(?:mother|father|parent|sister|brother|sibling|grandmother|grandfather|aunt|uncle|son|daughter)"
_FAMILY = re.compile(
    r"(fh|fhx|maternal history|paternal history)\b|.*\bfamily (medical )?(history|hx)\b|"
    rf"{_RELATIVE}( (with|has|had|died of)\b| ?[:–-])|"
    rf".*(?: [–-] |\(|, | in ){_RELATIVE}\)?\Z",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"(?:rule[ -]?out|ruled out|r/o|suspected|suspicion of|possible|probable|likely|presumed|questionable|query|"
    r"concern(?:s|ing)? for|evaluat(?:e|ion) (?:of|for)|work(?:ing diagnosis|[ -]?up for)|ddx|"
    r"at (increased |high )?risk|risk of|no (known|evidence|history|sign|significant)|absence of|without|denies|"
    r"negative for|screening for|exposure to|contact with|prophylaxis for)\b|differential(?: diagnosis)?:|"
    r"\?|.*\?\Z|.*\bv(?:s\.?|ersus) (?!host\b)|"
    r".*(?:[,;:(–-] ?|\s)(?:ruled[ -]out|rule[ -]out|r/o|suspected|possible|probable|questionable|unlikely|unconfirmed|"
    r"not (?:confirmed|present|found)|excluded|\?)[)\].]*\Z",
    re.IGNORECASE,
)
# ICD categories with the same meaning: observation for suspected conditions, contact, screening; family history.
_ICD10_UNSURE, _ICD10_FAMILY = ("Z03", "Z04", "Z11", "Z12", "Z13", "Z20"), ("Z80", "Z81", "Z82", "Z83", "Z84")
_ICD9_UNSURE = ("V01", "V71", "V73", "V74", "V75", "V76", "V77", "V78", "V79", "V80", "V81", "V82")
_ICD9_FAMILY = ("V16", "V17", "V18", "V19")
_PROCEDURE_DONE = frozenset({"completed", "in-progress", "stopped"})
_NOT_ORDERS = frozenset({"proposal", "plan", "option"})
NOT_IN_USE = "not in use"
"""Detail of the refusal of an unnamed drug that is not in use: no drug class becomes unknown by it."""
_MEDICATION_NEVER = frozenset({"entered-in-error", "cancelled", "draft", "not-taken"})
_DEEPEST_MIXTURE = 3
_A_DAY = timedelta(hours=26)  # the span of a date in any zone


def _time(resource: Resource, *names: str) -> Instant | None:
    """Returns the time of the first of the named elements that has one; of a Period its start."""
    for name in names:
        raw = resource.get(name)
        found = parse_instant(raw.get("start")) if isinstance(raw, dict) else parse_instant(raw)
        if found is not None:
            return found
    return None


def _later(prediction_time: datetime, *instants: Instant | None) -> bool:
    return any(instant is not None and not reachable(instant, prediction_time) for instant in instants)


def _day(instant: Instant | None) -> datetime | None:
    return None if instant is None else moment(instant) if instant.zone_assumed else instant.earliest


def _end_of_day(instant: Instant | None, prediction_time: datetime) -> datetime | None:
    """Returns the end of a date, or `prediction_time` if earlier; midnight may be before that day's admission."""
    return None if instant is None else min(moment(instant), prediction_time)


def read_condition(
    resource: Resource, source: str, directory: Directory, prediction_time: datetime, *, current: bool = True
) -> Condition | Refusal:
    """Returns a problem or diagnosis, or why it is not one of the patient.

    `current` means that its status is that of the prediction time.
    """
    verification = status_values(resource.get("verificationStatus"))
    unconfirmed = next((value for value in _NOT_VERIFIED if value in verification), None)
    if unconfirmed is not None:
        return Refusal(source, f"verification-{unconfirmed}")
    onset = _time(resource, "onsetDateTime", "onsetPeriod")
    recorded = _time(resource, "recordedDate", "assertedDate")
    text = text_of(resource.get("code"))
    if not text:
        return Refusal(source, _no_code(resource, resource.get("code")))
    if reason := absence_of(codings(resource.get("code")), text) or _excluded(resource.get("code"), text):
        return Refusal(source, reason)
    abated = _time(resource, "abatementDateTime", "abatementPeriod")
    has_ended = abated is not None and not _later(prediction_time, abated)
    return Condition(
        source=source,
        codings=codings(resource.get("code")),
        text=text,
        onset=_day(onset),
        recorded=_day(recorded),
        abated=moment(abated) if has_ended and abated is not None else None,
        active=_is_active(resource, recorded or onset, abated, prediction_time, current=current),
        stay=directory.key(resource.get("encounter")),
    )


def _is_active(
    resource: Resource, written: Instant | None, abated: Instant | None, at: datetime, *, current: bool
) -> bool | None:
    """Returns whether a condition was active: by its abatement date; without one, by a status known to be that of
    `prediction_time`."""
    known = current or status_is_of(resource, written, at)
    if abated is not None:
        if reachable(abated, at):
            return False
        imprecise = abated.earliest <= at and abated.latest - abated.earliest > _A_DAY
        if not (imprecise and known):
            return None if imprecise else True
    ended = any(resource.get(name) for name in ("abatementAge", "abatementString", "abatementRange"))
    ended = ended or resource.get("abatementBoolean") is True
    ended = ended or bool(_INACTIVE & status_values(resource.get("clinicalStatus")))
    return (False if known else None) if ended else True


def is_problem(concept: Any) -> bool:
    """Whether a CodeableConcept names a disease of the patient: not a relative's, and not only a suspected one."""
    return _excluded(concept, text_of(concept)) is None


def _no_code(resource: Resource, concept: Any, name: str = "code") -> str:
    """Returns why there is no code: a data absent reason in its place says that nothing is known."""
    stated = absent(resource, name) or (isinstance(concept, dict) and absent({"_code": concept}, "code"))
    return Absence.UNKNOWN if stated else "no-code"


def _excluded(code: Any, text: str) -> str | None:
    """Returns the reason code if codes or text mean family history or an unconfirmed problem, else None.

    >>> _excluded(None, "Family history of diabetes"), _excluded(None, "R/O sepsis"), _excluded(None, "Sepsis")
    ('family-history', 'not-confirmed', None)
    >>> _excluded(None, "Diabetes (family history)"), _excluded(None, "Pneumonia, suspected")
    ('family-history', 'not-confirmed')
    """
    return _excluded_by(codings(code), text)


@lru_cache(maxsize=4096)  # a chart repeats its problems
def _excluded_by(found: tuple[Coding, ...], text: str) -> str | None:
    icd9 = [code for coding in found if coding.system == ICD9CM and (code := icd_code(coding))]
    icd10 = [code for coding in found if coding.system != ICD9CM and (code := icd_code(coding))]
    reasons = {_text_reason(text), *(_text_reason(coding.display) for coding in found if coding.display)}
    if "family-history" in reasons or _any_in(icd10, _ICD10_FAMILY) or _any_in(icd9, _ICD9_FAMILY):
        return "family-history"
    if "not-confirmed" in reasons or _any_in(icd10, _ICD10_UNSURE) or _any_in(icd9, _ICD9_UNSURE):
        return "not-confirmed"
    return None


@lru_cache(maxsize=4096)
def _text_reason(text: str) -> str | None:
    """Returns the reason code of a text, or None; family history comes first."""
    return "family-history" if _FAMILY.match(text.strip()) else "not-confirmed" if _UNSURE.match(text.strip()) else None


def _any_in(codes: list[str], families: tuple[str, ...]) -> bool:
    return any(code.startswith(families) for code in codes)


def read_medication(
    resource: Resource, source: str, directory: Directory, prediction_time: datetime, *, current: bool = True
) -> Medication | Refusal:
    """Returns a MedicationRequest or MedicationStatement, or why it is not used.

    `current` means that its status is that of the prediction time.
    """
    status = resource.get("status")
    if not isinstance(status, str) or status in _MEDICATION_NEVER:
        return Refusal(source, status_reason(status))
    if (
        any(value.startswith("not-taking") for value in adherence(resource))
        or is_set(resource.get("wasNotTaken"))
        or resource.get("taken") == "n"
    ):
        return Refusal(source, "status-not-taken")
    if is_set(resource.get("doNotPerform")):
        return Refusal(source, "do-not-perform")
    if isinstance(resource.get("intent"), str) and resource["intent"] in _NOT_ORDERS:
        return Refusal(source, f"intent-{resource['intent']}")
    start = _time(resource, "authoredOn", "effectiveDateTime", "effectivePeriod", "dateAsserted")
    concept, why = _drug(resource, directory)
    text = text_of(concept)
    active, end = in_use(resource, start, directory, prediction_time, current=current)
    if not text:
        return Refusal(source, why, NOT_IN_USE if active is False else None)
    if reason := absence_of(codings(concept), text):
        return Refusal(source, reason)
    return Medication(
        source=source,
        codings=codings(concept),
        text=text,
        start=_day(start),
        end=None if end is None else moment(end),
        active=active,
        stay=directory.key(resource.get("encounter") or resource.get("context")),
        status=status,
        ended_by=None if active or end is not None else _day(validity_end(resource)),
    )


def read_administration(
    resource: Resource, source: str, directory: Directory, prediction_time: datetime
) -> Administration | Refusal:
    """Returns a MedicationAdministration, or why it is not used."""
    status = resource.get("status")
    if not isinstance(status, str) or status not in {"completed", "in-progress", "stopped", "on-hold", "unknown"}:
        return Refusal(source, status_reason(status))
    given = _time(
        resource, "effectiveDateTime", "effectivePeriod", "occurenceDateTime", "occurencePeriod", "occurrenceDateTime",
        "occurrencePeriod",
    )  # fmt: skip
    if given is None:
        return Refusal(source, "no-time")
    concept, why = _drug(resource, directory)
    text = text_of(concept)
    if not text:
        return Refusal(source, why)
    if reason := absence_of(codings(concept), text):
        return Refusal(source, reason)
    end = _end_of_infusion(resource)
    ended = end is not None and not _later(prediction_time, end)
    dosage = resource.get("dosage")
    dose = dosage.get("dose") if isinstance(dosage, dict) else None
    amount = dose.get("value") if isinstance(dose, dict) else None
    unit = dose.get("code") or dose.get("unit") if isinstance(dose, dict) else None
    return Administration(
        source=source,
        codings=codings(concept),
        text=text,
        time=given.earliest if not given.zone_assumed else moment(given),
        dose=finite(amount),
        unit=unit if isinstance(unit, str) else None,
        stay=directory.key(resource.get("encounter") or resource.get("context")),
        end=moment(end) if ended and end is not None else None,
        running=not ended and (end is not None or _open_infusion(resource)),
        order=directory.key(resource.get("request") or resource.get("prescription")),
    )


def _end_of_infusion(resource: Resource) -> Instant | None:
    period = _infusion(resource)
    return None if period is None else parse_instant(period.get("end"))


def _open_infusion(resource: Resource) -> bool:
    """Whether an administration without an end is running: if it is `in-progress` today, it ran all the time since its
    start."""
    return resource.get("status") == "in-progress"


def _infusion(resource: Resource) -> dict[str, Any] | None:
    periods = (resource.get(name) for name in ("effectivePeriod", "occurencePeriod", "occurrencePeriod"))
    return next((period for period in periods if isinstance(period, dict)), None)


def _drug(resource: Resource, directory: Directory) -> tuple[Any, str]:
    """Returns the drug's CodeableConcept, inline or from the referenced Medication (R4, R5), and why it is missing."""
    either = resource.get("medication")
    inline = resource.get("medicationCodeableConcept")
    if inline is None and isinstance(either, dict):
        inline = either.get("concept")
    if inline is not None:
        return inline, "no-code"
    reference = resource.get("medicationReference") or (either.get("reference") if isinstance(either, dict) else None)
    medication = directory.resolve(reference, resource)
    if medication is not None and medication.get("status") == "entered-in-error":
        return None, "status-entered-in-error"
    if medication is not None:
        return _substance(medication, directory, 0), "no-code"
    display = reference.get("display") if isinstance(reference, dict) else None
    if isinstance(display, str):
        return {"text": display}, "no-code"
    return None, "no-code" if reference is None else "medication-not-found"


def _substance(medication: Resource, directory: Directory, depth: int) -> Any:
    """Returns the code of a Medication, or, of a mixture without one, the codings and names of its ingredients."""
    code = medication.get("code")
    ingredients = medication.get("ingredient")
    if text_of(code) or not isinstance(ingredients, list) or depth == _DEEPEST_MIXTURE:
        return code
    parts = []
    for ingredient in (item for item in ingredients if isinstance(item, dict)):
        either = ingredient.get("item")
        concept = ingredient.get("itemCodeableConcept") or (either.get("concept") if isinstance(either, dict) else None)
        reference = ingredient.get("itemReference") or (either.get("reference") if isinstance(either, dict) else None)
        inner = directory.resolve(reference, medication)
        parts.append(_substance(inner, directory, depth + 1) if concept is None and inner is not None else concept)
    raw = [part.get("coding") for part in parts if isinstance(part, dict)]
    texts = " / ".join(dict.fromkeys(filter(None, map(text_of, parts))))
    return {"coding": [coding for several in raw if isinstance(several, list) for coding in several], "text": texts}


def read_procedure(
    resource: Resource, source: str, directory: Directory, prediction_time: datetime
) -> Procedure | Refusal:
    """Returns a procedure that was performed, or why it is not used."""
    status = resource.get("status")
    if not isinstance(status, str) or status not in _PROCEDURE_DONE:
        return Refusal(source, status_reason(status))
    if is_set(resource.get("notDone")) or is_set(resource.get("notPerformed")):
        return Refusal(source, "status-not-done")
    performed = _time(resource, "performedDateTime", "performedPeriod", "occurrenceDateTime", "occurrencePeriod")
    text = text_of(resource.get("code"))
    if not text:
        return Refusal(source, _no_code(resource, resource.get("code")))
    if reason := absence_of(codings(resource.get("code")), text):
        return Refusal(source, reason)
    stay = directory.key(resource.get("encounter") or resource.get("context"))
    return Procedure(source, codings(resource.get("code")), text, _end_of_day(performed, prediction_time), stay)
