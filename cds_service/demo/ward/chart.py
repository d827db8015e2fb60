"""A patient's chart in memory that answers the FHIR reads and searches our prefetch templates ask, as an EHR would.

service.fill_prefetch(context, Chart(resources).query) -> prefetch
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

from fhir_mapping.core import parse_instant
from fhir_mapping.parsing import Directory, Resource, ResourceEntry, source_of
from fhir_mapping.terminology import codings

_DATES = {
    "Encounter": ("period.start",),
    "Observation": ("effectiveDateTime", "effectivePeriod.start", "issued"),
    "Procedure": ("performedDateTime", "performedPeriod.start"),
    "DocumentReference": ("date",),
    "Composition": ("date",),
}


class ChartError(ValueError):
    """A search that this chart does not support."""


class Chart:
    """The resources of one patient. References to `urn:uuid` entries become relative ones, as on a real server."""

    def __init__(self, resources: Iterable[Resource], full_urls: Iterable[str | None] | None = None) -> None:
        listed = list(resources)
        urls = list(full_urls) if full_urls is not None else [None] * len(listed)
        directory = Directory.of([ResourceEntry(r, url) for r, url in zip(listed, urls, strict=True)])
        self.resources = [_relative(copy.deepcopy(resource), directory) for resource in listed]
        self._by_key = {source_of(resource, n): resource for n, resource in enumerate(self.resources)}

    @classmethod
    def ready(cls, resources: list[Resource]) -> Chart:
        """A chart of resources whose references are relative already; nothing is copied."""
        chart = cls.__new__(cls)
        chart.resources = resources
        chart._by_key = {source_of(resource, n): resource for n, resource in enumerate(resources)}
        return chart

    @classmethod
    def from_bundle(cls, bundle: Resource) -> Chart:
        entries = [entry for entry in bundle.get("entry", []) if isinstance(entry.get("resource"), dict)]
        return cls([entry["resource"] for entry in entries], [entry.get("fullUrl") for entry in entries])

    @property
    def patient(self) -> Resource:
        """The Patient. Raises ChartError when there is none."""
        found = next((r for r in self.resources if r.get("resourceType") == "Patient"), None)
        if found is None:
            raise ChartError("the chart has no Patient")
        return dict(found)

    def query(self, query: str) -> Resource | None:
        """Answer `Type/id` (None when absent) or `Type?patient=..&category=..&_sort=-date&_count=n`."""
        if "?" not in query:
            return self._by_key.get(query)
        kind, _, text = query.partition("?")
        matches = [resource for resource in self.resources if resource.get("resourceType") == kind]
        count: int | None = None
        for name, value in parse_qsl(text):
            if name == "_count":
                count = int(value)
            elif name == "_sort":
                matches.sort(key=_sort_key(kind, value), reverse=value.startswith("-"))
            else:
                matches = [resource for resource in matches if self._matches(resource, name, value)]
        page = matches if count is None else matches[:count]
        entries = [{"resource": resource, "search": {"mode": "match"}} for resource in page]
        entries += [{"resource": r, "search": {"mode": "include"}} for r in self._includes(kind, page)]
        return {"resourceType": "Bundle", "type": "searchset", "total": len(matches), "entry": entries}

    def _matches(self, resource: Resource, name: str, value: str) -> bool:
        if name == "patient":
            subject = resource.get("subject") or resource.get("patient") or {}
            return bool(subject.get("reference") == f"Patient/{value}")
        if name == "category":
            wanted = set(value.split(","))
            return any(coding.code in wanted for item in resource.get("category", []) for coding in codings(item))
        raise ChartError(f"this chart does not support searching by {name!r}")

    def _includes(self, kind: str, page: list[Resource]) -> list[Resource]:
        """Locations of encounters, as many servers include them; they identify intensive care units."""
        if kind != "Encounter":
            return []
        found: dict[str, Resource] = {}
        waiting = [place.get("location") for encounter in page for place in encounter.get("location", [])]
        while waiting:
            reference = waiting.pop()
            key = reference.get("reference") if isinstance(reference, dict) else None
            location = self._by_key.get(key) if isinstance(key, str) else None
            if location is not None and key is not None and key not in found:
                found[key] = location
                waiting.append(location.get("partOf"))
        return list(found.values())


def _sort_key(kind: str, value: str) -> Callable[[Resource], str]:
    if value.lstrip("-") != "date":
        raise ChartError(f"this chart does not support sorting by {value!r}")
    paths = _DATES.get(kind, ())

    def key(resource: Resource) -> str:
        for path in paths:
            found: Any = resource
            for step in path.split("."):
                found = found.get(step) if isinstance(found, dict) else None
            instant = parse_instant(found)
            if instant is not None:
                return instant.latest.isoformat()
        return ""

    return key


def _relative(value: Any, directory: Directory) -> Any:
    if isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str) and not reference.startswith("#"):
            key = directory.key(reference)
            if key is not None:
                value["reference"] = key
        for item in value.values():
            _relative(item, directory)
    elif isinstance(value, list):
        for item in value:
            _relative(item, directory)
    return value
