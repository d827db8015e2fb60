"""The words that identify a patient: what `Patient` and the people around the patient are called and reached by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.entries import ResourceEntry

_PEOPLE = frozenset({"RelatedPerson", "Practitioner", "Person"})
_NAMES = ("family", "given", "text", "line", "city", "district", "postalCode")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")


def personal_words(patient: Resource, entries: Iterable[ResourceEntry]) -> frozenset[str]:
    """Returns names of the patient, of contacts, relatives and practitioners word by word; addresses by the line;
    telephone numbers, e-mail addresses and identifiers as they are written."""
    found = set(_words(patient))
    for entry in entries:
        if entry.kind in _PEOPLE:
            found.update(_words(entry.resource))
    identifier = patient.get("id")
    if isinstance(identifier, str) and len(identifier) > 5:
        found.add(identifier)
    return frozenset(found)


def _words(person: Resource) -> Iterator[str]:
    for part in (person, *_each(person.get("contact"))):
        for name in ("name", "address"):
            for item in _each(part.get(name)):
                yield from _of_name(item)
        for item in _each(part.get("telecom")):
            if isinstance(item.get("value"), str):
                yield item["value"].strip()
    for item in _each(person.get("identifier")):
        value = item.get("value")
        if isinstance(value, str) and len(value) > 3:
            yield value.strip()


def _of_name(item: Mapping[str, Any]) -> Iterator[str]:
    for element in _NAMES:
        raw = item.get(element)
        for value in raw if isinstance(raw, list) else [raw]:
            if not isinstance(value, str):
                continue
            if element in {"line", "postalCode"}:
                yield value.strip()
            else:
                yield from (word for word in _WORD.findall(value) if len(word) > 2)


def _each(raw: Any) -> Iterator[Mapping[str, Any]]:
    for item in raw if isinstance(raw, list) else [raw]:
        if isinstance(item, Mapping):
            yield item
