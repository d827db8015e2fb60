"""Pairs the MEDS events that begin and end encounters, by encounter id where there is one.

Without an id an end closes the encounter of its class that began last: an admission inside a stay ends before it, and
an admission that nobody closed stays open. At one point in time ends come before beginnings, in any order of rows::

    admission      [=====================]      first admission, last discharge
    admission           [======]                second admission, first discharge
    discharge, admission at the same time  ][   the discharge closes the stay before it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from fhir_mapping.terminology import ACT_CODE, SNOMED

Resource = dict[str, Any]
Row = Mapping[str, Any]
_CLASSES = {"INPATIENT": "IMP", "EMERGENCY": "EMER", "OBSERVATION": "OBSENC", "OUTPATIENT": "AMB"}
_VISITS = {"IP": "IMP", "ERIP": "IMP", "ER": "EMER", "OP": "AMB"}
# (code, whether it starts or ends an encounter, class)
_EDGES = {
    "HOSPITAL_ADMISSION": (True, "IMP"), "HOSPITAL_DISCHARGE": (False, "IMP"),
    "ED_REGISTRATION": (True, "EMER"), "ED_OUT": (False, "EMER"),
    "ICU_ADMISSION": (True, "ICU"), "ICU_DISCHARGE": (False, "ICU"),
}  # fmt: skip
_HEADS = frozenset({"ENCOUNTER", "ADMISSION_TYPE", "ADMISSION_SOURCE", *_EDGES})
_ADMISSION_TYPES = {
    "EMERGENCY": "EM", "EW EMER.": "EM", "DIRECT EMER.": "EM", "URGENT": "UR", "ELECTIVE": "EL",
    "SURGICAL SAME DAY ADMISSION": "EL",
}  # fmt: skip
_DISPOSITION_SYSTEM = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
_SOURCE_SYSTEM = "http://terminology.hl7.org/CodeSystem/admit-source"
_NUBC = "https://www.nubc.org/CodeSystem/PatDischargeStatus"
# Destinations of `fhir_mapping.resources.admissions`, as codes; HL7 has none for a facility of unknown kind.
_DESTINATIONS = {
    "died": "exp", "against_advice": "aadvice", "hospice": "hosp", "hospital": "other-hcf", "psychiatric": "psy",
    "nursing": "snf", "rehabilitation": "rehab", "long_term_care": "long", "home_care": "alt-home", "home": "home",
    "other": "oth", "facility": "70",
}  # fmt: skip
# The words of MIMIC-IV.
_MIMIC = {
    "expired": "died", "against advice": "against_advice", "acute hospital": "hospital",
    "psych facility": "psychiatric", "skilled nursing facility": "nursing", "rehab": "rehabilitation",
    "chronic/long term acute care": "long_term_care", "assisted living": "facility", "other facility": "facility",
    "healthcare facility": "facility", "home health care": "home_care", "transfer": "hospital",
}  # fmt: skip
_SOURCES = {
    "emergency": "emd", "hospital_transfer": "hosp-trans", "facility": "nursing", "psychiatric": "psych",
    "referral": "gp", "born": "born",
}  # fmt: skip
_POINT_OF_ORIGIN = "https://www.nubc.org/CodeSystem/PointOfOrigin"
_ORIGINS = {"within_hospital": "D", "home": "1"}  # HL7's code system has neither
_PRIORITY = "http://terminology.hl7.org/CodeSystem/v3-ActPriority"
_ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"


class NewResource(Protocol):
    def __call__(self, kind: str, content: Resource, key: str | None = None) -> Resource: ...


class _Edge(NamedTuple):
    begins: bool
    kind: str
    at: str | None
    words: str | None
    encounter: str | None
    end: str | None
    admission: str | None


class _Fact(NamedTuple):
    """A fact of an encounter that may precede its beginning in the order of rows."""

    name: str
    value: str
    at: str | None
    encounter: str | None


@dataclass
class EncounterPairs:
    """EncounterPairs(new, unread): `read` takes the rows of one subject in time order, `finish` ends."""

    new: NewResource
    unread: Counter[str]
    _open: dict[str, list[tuple[str | None, Resource]]] = field(default_factory=dict)
    _made: list[Resource] = field(default_factory=list)
    _by_key: dict[str, Resource] = field(default_factory=dict)
    _waiting: list[_Edge] = field(default_factory=list)
    _facts: list[_Fact] = field(default_factory=list)
    _at: str | None = None

    def read(self, head: str, rest: tuple[str, ...], row: Row) -> bool:
        """Whether the row is about an encounter itself."""
        if head not in _HEADS and head.upper() != "VISIT":
            return False
        at, key, text = time_of(row["time"]), encounter_key(row), row.get("text_value")
        edge: _Edge | None = None
        if head == "ENCOUNTER" and len(rest) == 2 and rest[1] in {"START", "END"}:
            if rest[0] == "ICU":
                self._facts.append(_Fact("icu", rest[1], at, key))
                return True
            edge = _Edge(rest[1] == "START", _CLASSES.get(rest[0], rest[0]), at, text, key, None, None)
        elif head in {"ADMISSION_TYPE", "ADMISSION_SOURCE"} and rest:
            self._facts.append(_Fact(head, rest[0], at, key))
            return True
        elif head == "ENCOUNTER" and rest == ("PART_OF",):
            self._facts.append(_Fact("PART_OF", str(text), at, key))
            return True
        elif head in _EDGES:
            begins, kind = _EDGES[head]
            words = rest[0] if rest else text
            admission = words if head == "HOSPITAL_ADMISSION" else None
            edge = _Edge(begins, kind, at, None if begins else words, key, time_of(row.get("end")), admission)
        elif head.upper() == "VISIT" and rest and rest[0] in _VISITS:
            begins = len(rest) < 2 or rest[1].casefold() == "start"
            edge = _Edge(begins, _VISITS[rest[0]], at, None, key, time_of(row.get("end")), None)
        if edge is None:
            return False
        if edge.at != self._at:
            self._settle()
            self._at = edge.at
        self._waiting.append(edge)
        return True

    def reference(self, row: Row) -> str | None:
        """Returns the reference to the encounter of a row, if it names one of ours."""
        key = row.get("encounter")
        return key if isinstance(key, str) and key.startswith("Encounter/") else None

    def id_of(self, key: str | None) -> str | None:
        """Returns the id of the encounter that has this encounter id; None if none has."""
        found = None if key is None else self._by_key.get(key)
        return None if found is None else str(found["id"])

    def finish(self) -> str | None:
        """Completes the encounters; returns the id of the one that begins last, None without any."""
        self._settle()
        for fact in self._facts:
            encounter = self._by_key.get(fact.encounter or "") or self._around(fact.at)
            if encounter is None:
                self.unread[f"{fact.name} without an encounter"] += 1
            else:
                _FACTS[fact.name](encounter, fact)
        began = [made for made in self._made if made["period"].get("start")]
        last = max(began, key=lambda made: made["period"]["start"], default=None)
        return None if last is None else str(last["id"])

    def _settle(self) -> None:
        """Applies the edges of one point in time: ends of what began before, beginnings, then ends of those."""
        begins = [edge for edge in self._waiting if edge.begins]
        ends = [edge for edge in self._waiting if not edge.begins]
        late = [edge for edge in ends if not self._close(edge)]
        for edge in begins:
            self._begin(edge)
        for edge in late:
            if not self._close(edge):
                self.unread["an end without a beginning"] += 1
        self._waiting = []

    def _begin(self, edge: _Edge) -> None:
        icu = edge.kind == "ICU"
        encounter = self.new(
            "Encounter",
            {
                "status": "in-progress",
                "class": {"system": ACT_CODE, "code": "IMP" if icu else edge.kind},
                "period": {"start": edge.at},
            },
            edge.encounter if edge.encounter is not None and edge.encounter.startswith("Encounter/") else None,
        )
        if icu:
            encounter["type"] = [concept(SNOMED, "305351004")]
            if self._open.get("IMP"):
                encounter["partOf"] = {"reference": f"Encounter/{self._open['IMP'][-1][1]['id']}"}
        if edge.words:
            encounter["reasonCode"] = [{"text": edge.words}]
        if edge.admission is not None:
            _admission_type(encounter, _Fact("", edge.admission, None, None))
        self._made.append(encounter)
        if edge.encounter is not None and not icu:
            self._by_key.setdefault(edge.encounter, encounter)
        if edge.end is not None:
            _end(encounter, edge.end, None)
        else:
            self._open.setdefault(edge.kind, []).append((edge.encounter, encounter))

    def _close(self, edge: _Edge) -> bool:
        """Ends the open encounter with the same id, else the last one opened; False if there is none."""
        waiting = self._open.get(edge.kind, [])
        same = [item for item in waiting if edge.encounter is not None and item[0] == edge.encounter]
        either = same or [item for item in waiting if edge.encounter is None or item[0] is None]
        if not either:
            return False
        if edge.at is None and not same:
            return False
        waiting.remove(either[-1])
        _end(either[-1][1], edge.at, edge.words)
        return True

    def _around(self, at: str | None) -> Resource | None:
        """Returns the inpatient encounter that was running then, the latest begun."""
        found = [
            made
            for made in self._made
            if made["class"]["code"] == "IMP"
            and at is not None
            and (made["period"].get("start") or "") <= at <= made["period"].get("end", "9999")
        ]
        return found[-1] if found else None


def _end(encounter: Resource, at: str | None, words: str | None) -> None:
    encounter["status"] = "finished"
    if at is not None:
        encounter["period"]["end"] = at
    if words:
        said = words.strip().casefold()
        code = _DESTINATIONS.get(_MIMIC.get(said, said))
        system = _NUBC if code == "70" else _DISPOSITION_SYSTEM
        found = concept(None, words) if code is None else concept(system, code, words)
        encounter.setdefault("hospitalization", {})["dischargeDisposition"] = found


def _admission_type(encounter: Resource, fact: _Fact) -> None:
    code = _ADMISSION_TYPES.get(fact.value.upper())
    if code is not None:
        encounter["priority"] = concept(_PRIORITY, code)


def _admission_source(encounter: Resource, fact: _Fact) -> None:
    if fact.value in _SOURCES:
        found = concept(_SOURCE_SYSTEM, _SOURCES[fact.value])
    else:
        origin = _ORIGINS.get(fact.value)
        found = concept(None, fact.value) if origin is None else concept(_POINT_OF_ORIGIN, origin)
    encounter.setdefault("hospitalization", {})["admitSource"] = found


def _part_of(encounter: Resource, fact: _Fact) -> None:
    encounter["partOf"] = {"reference": fact.value}


def _intensive_care(encounter: Resource, fact: _Fact) -> None:
    if fact.value != "START":
        return
    unit = {"resourceType": "Location", "id": "icu", "type": [concept(_ROLE, "ICU")]}
    encounter["contained"] = [unit]
    encounter["location"] = [{"location": {"reference": "#icu"}, "period": {"start": fact.at}}]


_FACTS = {
    "ADMISSION_TYPE": _admission_type, "ADMISSION_SOURCE": _admission_source, "PART_OF": _part_of,
    "icu": _intensive_care,
}  # fmt: skip


def encounter_key(row: Row) -> str | None:
    """Returns the encounter id of a row, as a dataset spells it."""
    key = row.get("encounter")
    return None if key is None else str(key)


def concept(system: str | None, code: str | None, text: str | None = None) -> Resource:
    """Returns a CodeableConcept."""
    coding = [] if code is None else [{"code": code, **({"system": system} if system else {})}]
    return {"coding": coding, **({"text": text} if text else {})}


def time_of(value: Any) -> str | None:
    """Returns a time of a row as ISO 8601; UTC if it has no zone."""
    if not isinstance(value, datetime):
        return value if isinstance(value, str) else None
    return value.isoformat() if value.tzinfo else f"{value.isoformat()}+00:00"
