"""Links the charts of one person, so that they are always in the same split.

Patients are one person if they share a business identifier, if `Patient.link` says so, if name, birth date and sex
agree, or if their clinical content is identical (a chart imported twice under new ids). A wrong link is harmless: two
people are in the same split. A missed link leaks outcomes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

Resource = dict[str, Any]
# Fields that an import may change.
_NESTED = (dict, list)
_NOT_CONTENT = frozenset({"id", "identifier", "meta", "reference", "fullUrl", "text", "display", "extension"})


class People:
    """Sets of linked patients. `person(id)` is the smallest patient id of the set, whatever the order of linking."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def add(self, subject_id: str, found: Iterable[str]) -> None:
        """Links a patient to all with one of these marks (see `marks_of`)."""
        self._find(f"p:{subject_id}")
        for mark in found:
            self._union(f"p:{subject_id}", mark)

    def person(self, subject_id: str) -> str:
        return self._find(f"p:{subject_id}").partition(":")[2]

    def _find(self, item: str) -> str:
        self._parent.setdefault(item, item)
        root = item
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[item] != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def _union(self, a: str, b: str) -> None:
        # The root of a set with a patient in it is always a patient: marks sort after "p:".
        first, second = sorted((self._find(a), self._find(b)))
        self._parent[second] = first


def marks_of(resources: Sequence[Resource]) -> tuple[str, ...]:
    """Returns the marks of one patient."""
    patient = next(r for r in resources if r["resourceType"] == "Patient")
    return tuple(marks(patient, resources))


def marks(patient: Resource, resources: Iterable[Resource]) -> Iterator[str]:
    """Yields the marks that link patients; every mark sorts after `p:`."""
    for identifier in _list(patient.get("identifier")):
        if isinstance(identifier.get("value"), str) and isinstance(identifier.get("system"), str):
            yield f"q:{identifier['system']}|{identifier['value']}"
    for link in _list(patient.get("link")):
        other = link.get("other")
        reference = other.get("reference") if isinstance(other, dict) else None
        if isinstance(reference, str) and "Patient/" in reference:
            yield f"p:{reference.rpartition('Patient/')[2].partition('/')[0]}"
    demographics = _demographics(patient)
    if demographics is not None:
        yield f"r:{demographics}"
    content = _content(resources)
    if content is not None:
        yield f"s:{content}"


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _demographics(patient: Resource) -> str | None:
    birth, gender = patient.get("birthDate"), patient.get("gender")
    if not isinstance(birth, str) or len(birth) != 10:
        return None
    for name in _list(patient.get("name")):
        given = name.get("given")
        if isinstance(name.get("family"), str) and isinstance(given, list) and given:
            return f"{name['family']}|{given[0]}|{birth}|{gender}".casefold()
    return None


def _content(resources: Iterable[Resource]) -> str | None:
    """Returns a digest of the clinical resources without their ids; None if they are too few to identify a person."""
    kept = [r for r in resources if r["resourceType"] not in {"Patient", "Location", "Medication"}]
    if len(kept) < 3 or {r["resourceType"] for r in kept} == {"Encounter"}:
        return None
    parts = sorted(orjson.dumps(_stripped(r), option=orjson.OPT_SORT_KEYS) for r in kept)
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def _stripped(value: Any) -> Any:
    """Returns a value without the fields that an import may change; most are plain, and cost no call."""
    if isinstance(value, dict):
        return {
            key: _stripped(item) if type(item) in _NESTED else item
            for key, item in value.items()
            if key not in _NOT_CONTENT
        }
    return [_stripped(item) for item in value] if isinstance(value, list) else value
