"""Makes the FHIR resources of one subject from its MEDS rows.

Codes are read as `VOCABULARY//code` or `VOCABULARY/code`, in the spellings of our own export, of MIMIC-IV in MEDS and
of OMOP in MEDS. The extra columns of our own (`fhir_mapping.record.meds`) give back resources and encounters.
A number without a unit is used only if its LOINC code fixes the unit.

An event without a time is known from the end of its encounter; without one, from the end of the last encounter of the
subject, the latest it can belong to.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_mapping.terminology import ICD9CM, ICD10CM, LOINC, RXNORM, SNOMED, definitions
from risk_model.cohorts.meds_encounters import EncounterPairs, concept, encounter_key, time_of

Resource = dict[str, Any]
Row = Mapping[str, Any]
_VOCABULARIES = {
    "LOINC": LOINC, "SNOMED": SNOMED, "SNOMEDCT": SNOMED, "ICD10CM": ICD10CM, "ICD9CM": ICD9CM, "RXNORM": RXNORM,
    "ICD10": "http://hl7.org/fhir/sid/icd-10", "ICD10PCS": "http://hl7.org/fhir/sid/icd-10-pcs",
    "ICD9PROC": "http://hl7.org/fhir/sid/icd-9-cm/procedure",
}  # fmt: skip
_CONDITIONS = {ICD10CM, ICD9CM, "http://hl7.org/fhir/sid/icd-10"}
_PROCEDURES = {"http://hl7.org/fhir/sid/icd-10-pcs", "http://hl7.org/fhir/sid/icd-9-cm/procedure"}
_ICD = {
    ("DIAGNOSIS", "10"): "ICD10CM", ("DIAGNOSIS", "9"): "ICD9CM",
    ("PROCEDURE", "10"): "ICD10PCS", ("PROCEDURE", "9"): "ICD9PROC",
}  # fmt: skip
_LOCAL = {"CONDITION": "Condition", "DRUG": "MedicationRequest", "PROCEDURE": "Procedure", "OBSERVATION": "Observation"}
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?\Z")
_BOUND = re.compile(r"(?P<bound><=|>=|<|>)\s*(?P<value>-?\d+(\.\d+)?)\s*(?P<unit>\S.*)?\Z")


@dataclass
class SubjectRows:
    """SubjectRows(subject, unread).read(rows) returns the resources, the Patient first; `unread` counts the rest."""

    subject: str
    unread: Counter[str]
    made: list[Resource] = field(default_factory=list)
    by_key: dict[str, Resource] = field(default_factory=dict)
    undated: list[tuple[Resource, str | None]] = field(default_factory=list)
    """Resources without a time, each with the encounter id of its row, if any."""
    values: Counter[str] = field(default_factory=Counter)
    """How many Observations were made of each one's values."""
    _encounters: EncounterPairs = field(init=False)

    def __post_init__(self) -> None:
        self._encounters = EncounterPairs(self._new, self.unread)

    def read(self, rows: Iterable[Row]) -> tuple[Resource, ...]:
        patient: Resource = {"resourceType": "Patient", "id": self.subject}
        for row in rows:
            if not isinstance(row["code"], str):
                self.unread["null"] += 1
                continue
            head, rest = _parts(row["code"])
            if head == "MEDS_BIRTH":
                patient["birthDate"] = _date(row, precise=False)
            elif head == "MEDS_DEATH":
                died = _date(row, precise=True)
                patient |= {"deceasedDateTime": died} if died else {"deceasedBoolean": True}
            elif head == "GENDER" and rest:
                patient["gender"] = _GENDERS.get(rest[0].upper())
            elif not self._encounters.read(head, rest, row):
                self._event(head, rest, row)
        last = self._encounters.finish()
        for resource, key in self.undated:
            found = self._encounters.id_of(key) or last
            if found is not None:
                resource["encounter"] = {"reference": f"Encounter/{found}"}
        return ({key: value for key, value in patient.items() if value is not None}, *self.made)

    def _event(self, head: str, rest: tuple[str, ...], row: Row) -> None:
        if head == "NOTE":
            self._note(rest, row)
            return
        meaning = _meaning(row["code"])
        if meaning.code is None:
            self.unread[meaning.head] += 1
            return
        system = row.get("system") if meaning.local else meaning.system
        own = row.get("resource")
        if meaning.administered:
            kind = "MedicationAdministration"
        else:
            kind = (own.partition("/")[0] if isinstance(own, str) else "") or _kind(meaning.head, system)
        coded = concept(system, None if meaning.code == "UNCODED" else meaning.code, row.get("text_value"))
        if kind == "Observation":
            self._observation(coded, meaning.tail, row, meaning.head)
        else:
            self._clinical(kind, coded, meaning.tail, row)

    def _clinical(self, kind: str, coded: Resource, tail: tuple[str, ...], row: Row) -> None:
        at, key = time_of(row["time"]), row.get("resource")
        if key and key in self.by_key:  # another coding of the same resource
            _concept_of(self.by_key[key])["coding"].extend(coded.get("coding", ()))
            return
        end = time_of(row.get("end"))
        content: Resource
        status = row.get("status") or "active"
        if kind == "MedicationRequest":
            content = {"status": status, "intent": "order", "medicationCodeableConcept": coded, "authoredOn": at}
            if end:
                content["dosageInstruction"] = [{"timing": {"repeat": {"boundsPeriod": {"end": end}}}}]
        elif kind == "MedicationStatement":
            content = {"status": status, "medicationCodeableConcept": coded}
            period = {name: time for name, time in (("start", at), ("end", end)) if time}
            content |= {"effectivePeriod": period} if period else {}
        elif kind == "MedicationAdministration":
            content = {"status": row.get("status") or "completed", "medicationCodeableConcept": coded}
            if end or content["status"] == "in-progress":
                content["effectivePeriod"] = {"start": at, **({"end": end} if end else {})}
            else:
                content["effectiveDateTime"] = at
            content |= {"request": {"reference": row["order"]}} if row.get("order") else {}
            if row.get("numeric_value") is not None:
                content["dosage"] = {
                    "dose": {"value": row["numeric_value"], **({"unit": "/".join(tail)} if tail else {})}
                }
        elif kind == "Procedure":
            content = {"status": "completed", "code": coded, "performedDateTime": at}
        else:
            kind, content = "Condition", {"code": coded, "recordedDate": at, "abatementDateTime": end}
        made = self._placed(kind, content, row)
        if key:
            self.by_key[key] = made

    def _observation(self, coded: Resource, tail: tuple[str, ...], row: Row, head: str) -> None:
        number, text = row.get("numeric_value"), row.get("text_value")
        content: Resource = {
            "status": row.get("status") or "final",
            "code": {"coding": coded["coding"]},
            "effectiveDateTime": time_of(row["time"]),
            "issued": time_of(row.get("issued")),
        }
        if number is not None:
            unit = row.get("unit") or "/".join(tail)
            content["valueQuantity"] = {"value": number, **({"unit": unit} if unit else {})}
        elif len(tail) >= 2 and (answer := _coding(tail[0], tail[1:]))[1] is not None:
            content["valueCodeableConcept"] = concept(answer[0], answer[1], text)
        elif len(tail) >= 2 and tail[0] in _LOCAL:
            content["valueCodeableConcept"] = concept(None, tail[1], text)
        elif isinstance(text, str) and (bound := _BOUND.match(text)) is not None:
            content["valueQuantity"] = _quantity(float(bound["value"]), bound["unit"]) | {"comparator": bound["bound"]}
        elif text:
            content["valueString"] = text
        else:
            self.unread[f"{head} without a value"] += 1
            return
        self._placed("Observation", content, row)

    def _note(self, rest: tuple[str, ...], row: Row) -> None:
        text = row.get("text_value")
        if not text:
            self.unread["NOTE without a text"] += 1
            return
        data = base64.b64encode(str(text).encode()).decode()
        attachment = {"contentType": "text/plain; charset=utf-8", "data": data}
        title = {"text": (rest[0] if rest else "note").replace("_", " ")}
        content = {
            "status": "current",
            "type": title,
            "date": time_of(row["time"]),
            "content": [{"attachment": attachment}],
        }
        self._new("DocumentReference", content)

    def _placed(self, kind: str, content: Resource, row: Row) -> Resource:
        """Returns the new resource with its encounter; one without time and encounter is placed at the end."""
        made = self._new(kind, content, self._key(row) if kind == "Observation" else row.get("resource"))
        encounter = self._encounters.reference(row)
        if encounter is not None:
            made["encounter"] = {"reference": encounter}
        elif row["time"] is None:
            self.undated.append((made, encounter_key(row)))
        return made

    def _key(self, row: Row) -> str | None:
        """Returns a key for an Observation that sorts as the one it came from: of several values at one time the
        greater key counts. Each value of a panel becomes an Observation of its own."""
        key = row.get("resource")
        if not isinstance(key, str):
            return None
        self.values[key] += 1
        return key if self.values[key] == 1 else f"{key}.{self.values[key]}"

    def _new(self, kind: str, content: Resource, key: str | None = None) -> Resource:
        made: Resource = {
            "resourceType": kind,
            "id": key.partition("/")[2] if key else f"{self.subject}-{len(self.made)}",
            "subject": {"reference": f"Patient/{self.subject}"},
        }
        for name, value in content.items():
            if value is not None:
                made[name] = value
        self.made.append(made)
        return made


_GENDERS = {"F": "female", "FEMALE": "female", "M": "male", "MALE": "male", "OTHER": "other"}


def _kind(head: str, system: str | None) -> str:
    if system == LOINC or head == "OBSERVATION":
        return "Observation"
    if system == RXNORM or head == "DRUG":
        return "MedicationRequest"
    if system in _PROCEDURES or head == "PROCEDURE":
        return "Procedure"
    return "Condition"


def _quantity(value: float, unit: str | None) -> Resource:
    return {"value": value, **({"unit": unit} if unit else {})}


def _concept_of(resource: Resource) -> Resource:
    found: Resource = resource.get("code") or resource["medicationCodeableConcept"]
    return found


class _Meaning(NamedTuple):
    """What a code says by itself; `code` is None where it is not read, `local` where a column names its system."""

    head: str
    system: str | None
    code: str | None
    tail: tuple[str, ...]
    """What follows the code, such as a unit."""
    local: bool
    administered: bool


_CODES_KEPT = 1 << 16
"""Codes whose meaning is kept: a dataset repeats some ten thousand of them millions of times."""


@lru_cache(maxsize=_CODES_KEPT)
def _parts(code: str) -> tuple[str, tuple[str, ...]]:
    head, *rest = code.split("//" if "//" in code else "/")
    return head, tuple(rest)


@lru_cache(maxsize=_CODES_KEPT)
def _meaning(text: str) -> _Meaning:
    head, rest = _parts(text)
    administered = head == "ADMINISTERED" and bool(rest)
    if administered:
        head, rest = rest[0], rest[1:]
    system, code, tail = _coding(head, rest)
    local = code is None and head in _LOCAL and bool(rest)  # a local code of our own export
    return _Meaning(head, system, rest[0] if local else code, rest[1:] if local else tail, local, administered)


def _coding(head: str, rest: tuple[str, ...]) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Returns (system, code, the rest: a unit).

    >>> _coding("LOINC", ("2951-2", "mmol", "L"))
    ('http://loinc.org', '2951-2', ('mmol', 'L'))
    >>> _coding("DIAGNOSIS", ("ICD", "10", "I509"))[:2]
    ('http://hl7.org/fhir/sid/icd-10-cm', 'I509')
    """
    if head in {"DIAGNOSIS", "PROCEDURE"} and len(rest) >= 3 and rest[0] == "ICD":
        name = _ICD.get((head, rest[1]))
        return (_VOCABULARIES[name], rest[2], ()) if name else (None, None, ())
    if head == "RISKCARDS" and rest and rest[0] in definitions().concepts:
        loinc = definitions().concepts[rest[0]].loinc
        return (LOINC, loinc[0], rest[1:]) if loinc else (None, None, ())
    system = _VOCABULARIES.get(head.upper().replace("-", "").replace("_", ""))
    return (system, rest[0], rest[1:]) if system and rest else (None, None, ())


def _date(row: Row, *, precise: bool) -> str | None:
    """Returns the time of a birth or death as FHIR; a date if it is one, such as midnight or the last second of a day.

    MEDS times have no precision, and a source with dates only writes one of these two.
    """
    text, at = row.get("text_value"), row["time"]
    if isinstance(text, str) and _DATE.match(text):
        return text
    if not isinstance(at, datetime):
        return time_of(at)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    of_a_date = (at.hour, at.minute, at.second) in {(0, 0, 0), (23, 59, 59)}
    return at.isoformat() if precise and not of_a_date else at.date().isoformat()
