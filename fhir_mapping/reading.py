"""Bytes to resources: a Bundle, one resource, a list of them, or NDJSON; strict JSON throughout.

Nothing is validated against the whole of FHIR here; that costs seconds on a real chart. Each reader of a resource type
checks what it uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from fhir_mapping.errors import InvalidInputError
from fhir_mapping.values import Refusal

Resource = dict[str, Any]
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource, where it came from, and whether it is data or only something references may point at."""

    resource: Resource
    full_url: str | None = None
    include: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read: entries in input order, and what could not be."""

    entries: tuple[Entry, ...]
    refused: tuple[Refusal, ...] = ()
    incomplete: frozenset[str] = field(default_factory=frozenset)
    """Resource types of which the input says itself that it is not everything."""
    population: bool = False
    """True for NDJSON, where many patients may stand side by side."""


def read_bytes(raw: bytes | str) -> Reading:
    """Parse a Bundle, a resource, a list or NDJSON.

    Raises InvalidInputError, with the position, for anything else: invalid JSON (NaN and infinities are invalid), a
    root that is no object or list, an entry that is no resource.
    """
    data = raw.encode() if isinstance(raw, str) else bytes(raw)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise InvalidInputError("the input is empty; expected a FHIR Bundle, a list of resources, or NDJSON")
    try:
        root = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        lines = _ndjson(data)
        if lines is None:
            raise InvalidInputError(f"not valid JSON: {error.msg}", position=f"byte {error.pos}") from None
        return lines
    return _from_root(root)


def _ndjson(data: bytes) -> Reading | None:
    """NDJSON, or None when the first line is not an object by itself (then the JSON error tells more)."""
    entries: list[Entry] = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if not entries:
                return None
            raise InvalidInputError(f"not valid JSON: {error.msg}", position=f"line {number}") from None
        entries.append(Entry(_resource(value, f"line {number}")))
    return Reading(tuple(entries), population=True)


def _from_root(root: Any) -> Reading:
    if isinstance(root, list):
        readings = [_from_root(item) if _is_bundle(item) else None for item in root]
        entries: list[Entry] = []
        refused: list[Refusal] = []
        incomplete: set[str] = set()
        for position, (item, reading) in enumerate(zip(root, readings, strict=True)):
            if reading is None:
                entries.append(Entry(_resource(item, f"[{position}]")))
                continue
            entries.extend(reading.entries)
            refused.extend(reading.refused)
            incomplete |= reading.incomplete
        return Reading(tuple(entries), tuple(refused), frozenset(incomplete))
    if _is_bundle(root):
        return read_bundle(root, name="Bundle")
    return Reading((Entry(_resource(root, "root")),))


def _is_bundle(value: Any) -> bool:
    return isinstance(value, dict) and value.get("resourceType") == "Bundle"


def _resource(value: Any, position: str) -> Resource:
    if not isinstance(value, dict):
        raise InvalidInputError("expected a FHIR resource (a JSON object)", position=position)
    if not isinstance(value.get("resourceType"), str):
        raise InvalidInputError("a resource without resourceType", position=position)
    return value


def read_bundle(bundle: Resource, *, name: str, resource_type: str | None = None) -> Reading:
    """The entries of one Bundle. Its own signs of being incomplete mark `resource_type` (or every type it holds)."""
    raw = bundle.get("entry")
    if raw is None:
        raw = []
    if not isinstance(raw, list):
        raise InvalidInputError("Bundle.entry is not a list", position=f"{name}.entry")
    entries, refused, broken = [], [], False
    for number, item in enumerate(raw):
        position = f"{name}.entry[{number}]"
        if not isinstance(item, dict):
            raise InvalidInputError("a Bundle entry that is not an object", position=position)
        resource = item.get("resource")
        if resource is None:
            refused.append(Refusal(position, "entry-without-resource"))
            continue
        resource = _resource(resource, f"{position}.resource")
        search = item.get("search")
        mode = search.get("mode") if isinstance(search, dict) else None
        if resource["resourceType"] == "OperationOutcome" or mode == "outcome":
            refused.append(Refusal(position, "operation-outcome"))
            broken = True
            continue
        url = item.get("fullUrl")
        entries.append(Entry(resource, url if isinstance(url, str) else None, include=mode == "include"))
    reasons = list(_incompleteness(bundle, sum(not entry.include for entry in entries)))
    refused.extend(Refusal(name, reason) for reason in reasons)
    partial: Iterable[str] = ()
    if broken or reasons:
        partial = [resource_type] if resource_type else {entry.resource["resourceType"] for entry in entries}
    return Reading(tuple(entries), tuple(refused), frozenset(partial))


def _incompleteness(bundle: Resource, matches: int) -> Iterator[str]:
    if bundle.get("type") != "searchset":
        return
    links = bundle.get("link")
    relations = {link.get("relation") for link in links if isinstance(link, dict)} if isinstance(links, list) else set()
    if "next" in relations:
        yield "more-pages"
        return
    total = bundle.get("total")
    if isinstance(total, int) and not isinstance(total, bool) and total > matches:
        yield "truncated"


def source_of(resource: Resource, position: int) -> str:
    """`Observation/o1`; a resource without a usable id is named by its place in the input."""
    identifier = resource.get("id")
    if isinstance(identifier, str) and _ID.match(identifier):
        return f"{resource['resourceType']}/{identifier}"
    return f"{resource['resourceType']}/#{position}"
