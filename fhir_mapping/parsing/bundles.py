"""Bundles: their entries, what they say about being incomplete, and what a history takes back.

FHIR R4 Bundle (https://hl7.org/fhir/R4/bundle.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import orjson

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.core.times import parse_instant
from fhir_mapping.core.values import Instant, Refusal
from fhir_mapping.parsing.elements import Resource, decode_json
from fhir_mapping.parsing.entries import ParsedInput, ResourceEntry

_DEEPEST_BUNDLE = 4
_ABSENT = msgspec.Raw(b"null")
_KEY = re.compile(r"(?:\A|/)(?P<key>[A-Z][A-Za-z]+/[A-Za-z0-9\-._]{1,64})(?:/_history/[^/]+)?\Z")


class BundleEntry(msgspec.Struct, gc=False, omit_defaults=True):
    """One Bundle.entry, its resource left as bytes."""

    resource: msgspec.Raw = _ABSENT
    fullUrl: Any = None
    search: Any = None
    response: Any = None
    modifierExtension: Any = None
    request: Any = None


class Bundle(msgspec.Struct, omit_defaults=True):
    """A Bundle whose resources nobody has read yet."""

    resourceType: Any = None
    type: Any = None
    total: Any = None
    link: Any = None
    entry: list[BundleEntry] | None = None

    @property
    def resources(self) -> Iterator[bytes]:
        """As they came; an entry may have none."""
        return (bytes(item.resource) for item in self.entry or () if item.resource is not _ABSENT)

    def parsed(self) -> Resource:
        """As a dictionary, in full."""
        whole: Resource = decode_json(msgspec.json.encode(self))
        return whole


_BUNDLE = msgspec.json.Decoder(Bundle)
_MEMBERS = BundleEntry.__struct_fields__[1:]


def decoded(raw: bytes | msgspec.Raw) -> Bundle:
    """The Bundle in these bytes. Raises msgspec.DecodeError."""
    return _BUNDLE.decode(raw)


def unread(raw: bytes) -> Bundle | None:
    """The Bundle in these bytes, its resources left as they are; None for anything else."""
    try:
        bundle = _BUNDLE.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return bundle if bundle.resourceType == "Bundle" else None


def read_bundle(bundle: Bundle | Resource, *, name: str, resource_type: str | None = None) -> ParsedInput:
    """The entries of one Bundle; its signs of being incomplete mark `resource_type` (or every type it holds).

    One that came parsed is written out again first: what is in it is read faster as bytes.
    """
    if isinstance(bundle, Bundle):
        return _read_bundle(bundle, name, resource_type)
    try:
        facts = _BUNDLE.decode(orjson.dumps(bundle))
    except (TypeError, msgspec.DecodeError):  # not from JSON, or no Bundle: the other way says what is wrong
        facts = _facts(bundle, name)
    return _read_bundle(facts, name, resource_type)


def _facts(bundle: Resource, name: str) -> Bundle:
    raw = bundle.get("entry")
    if not isinstance(raw, list | None):
        raise InvalidInputError("Bundle.entry is not a list", position=f"{name}.entry")
    items = []
    for number, item in enumerate(raw or ()):
        if not isinstance(item, dict):
            raise InvalidInputError("a Bundle entry that is not an object", position=f"{name}.entry[{number}]")
        resource: Any = item.get("resource")
        items.append(BundleEntry(resource, *(item.get(member) for member in _MEMBERS)))
    return Bundle("Bundle", bundle.get("type"), bundle.get("total"), bundle.get("link"), items)


def _read_bundle(bundle: Bundle, name: str, resource_type: str | None, depth: int = 0) -> ParsedInput:
    """The entries of a Bundle, and of the Bundles in it (batch responses)."""
    entries: list[ResourceEntry] = []
    refused: list[Refusal] = []
    incomplete: set[str] = set()
    withdrawn: list[_Withdrawn] = []
    broken = False
    for number, item in enumerate(bundle.entry or ()):
        if item.request is not None and (key := _deleted(item)):
            withdrawn.append(_Withdrawn(key, len(entries), _modified(item.response)))
            refused.append(Refusal(key, "deleted"))
            continue
        search = item.search
        mode = search.get("mode") if isinstance(search, dict) else None
        failed = item.response is not None and _failed(item.response)
        if item.resource is None or item.resource == _ABSENT:
            reason = "operation-outcome" if failed else "entry-without-resource"
            refused.append(Refusal(f"{name}.entry[{number}]", reason))
            broken = broken or failed
            continue
        url = item.fullUrl if isinstance(item.fullUrl, str) else None
        try:
            entry = ResourceEntry(item.resource, url, include=mode == "include")
        except InvalidInputError as error:
            raise InvalidInputError(str(error), position=f"{name}.entry[{number}].resource") from None
        if item.modifierExtension:
            refused.append(Refusal(f"{name}.entry[{number}]", "modifier-extension"))
        elif entry.kind == "OperationOutcome" or mode == "outcome" or failed:
            refused.append(Refusal(f"{name}.entry[{number}]", "operation-outcome"))
            broken = True
        elif entry.kind == "Bundle" and depth < _DEEPEST_BUNDLE:
            place = f"{name}.entry[{number}]"
            inner = _read_bundle(_facts(entry.resource, place), place, resource_type, depth + 1)
            entries.extend(inner.entries)
            refused.extend(inner.refused)
            incomplete |= inner.incomplete
        else:
            entries.append(entry)
    if withdrawn or bundle.type == "history":
        entries = list(_last_words(entries, withdrawn, told_in_order=bundle.type == "history"))
    reasons = list(_incompleteness(bundle, entries)) if bundle.type == "searchset" else []
    refused.extend(Refusal(name, reason) for reason in reasons)
    if broken or reasons:
        incomplete.update([resource_type] if resource_type else {entry.kind for entry in entries})
    return ParsedInput(tuple(entries), tuple(refused), frozenset(incomplete))


class _Withdrawn(NamedTuple):
    """A resource that was deleted: its key, how many entries were told before, and when."""

    key: str
    told_before: int
    at: Instant | None


def _deleted(item: BundleEntry) -> str | None:
    """`Observation/o1` of an entry that says that it was deleted."""
    request = item.request
    if not isinstance(request, dict) or request.get("method") != "DELETE":
        return None
    urls = (request.get("url"), item.fullUrl)
    found = (_KEY.search(url) for url in urls if isinstance(url, str))
    return next((match["key"] for match in found if match), None)


def _modified(response: Any) -> Instant | None:
    return parse_instant(response.get("lastModified")) if isinstance(response, dict) else None


def _last_words(
    entries: list[ResourceEntry], withdrawn: list[_Withdrawn], *, told_in_order: bool
) -> Iterator[ResourceEntry]:
    """Entries without those deleted after they were written.

    A history tells the newest first (https://hl7.org/fhir/R4/http.html#history): where its versions of one resource do
    not say themselves which is newer, the first counts.
    """
    told: set[str] = set()
    for position, entry in enumerate(entries):
        key, meta = entry.source(position), entry.resource.get("meta")
        written = parse_instant(meta.get("lastUpdated")) if isinstance(meta, dict) else None
        says_itself = written is not None or (isinstance(meta, dict) and bool(meta.get("versionId")))
        if any(gone.key == key and _before(position, written, gone) for gone in withdrawn):
            continue
        if not told_in_order or says_itself or key not in told:
            yield entry
        told.add(key)


def _before(position: int, written: Instant | None, gone: _Withdrawn) -> bool:
    """Whether the entry at this position was deleted after it was written."""
    return position >= gone.told_before if written is None or gone.at is None else written.latest <= gone.at.latest


def _failed(response: Any) -> bool:
    """Whether a batch response says that this part of it went wrong."""
    status = response.get("status") if isinstance(response, dict) else None
    return isinstance(status, str) and status.startswith(("4", "5"))


def _incompleteness(bundle: Bundle, entries: list[ResourceEntry]) -> Iterator[str]:
    links = bundle.link
    relations = {link.get("relation") for link in links if isinstance(link, dict)} if isinstance(links, list) else set()
    if "next" in relations:
        yield "more-pages"
        return
    total = bundle.total
    if isinstance(total, int) and not isinstance(total, bool) and total > sum(not entry.include for entry in entries):
        yield "truncated"
