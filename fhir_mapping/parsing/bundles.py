"""Reads Bundles: entries, signs that the Bundle is incomplete, and deletions in a history.

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
from fhir_mapping.parsing.entries import ParsedInput, ResourceEntry, SearchPage

_DEEPEST_BUNDLE = 4
_ABSENT = msgspec.Raw(b"null")
_KEY = re.compile(r"(?:\A|/)(?P<key>[A-Z][A-Za-z]+/[A-Za-z0-9\-._]{1,64})(?:/_history/[^/]+)?\Z")


class BundleEntry(msgspec.Struct, gc=False, omit_defaults=True):
    """One Bundle.entry; its resource stays bytes."""

    resource: msgspec.Raw = _ABSENT
    fullUrl: Any = None
    search: Any = None
    response: Any = None
    modifierExtension: Any = None
    request: Any = None


class Bundle(msgspec.Struct, omit_defaults=True):
    """A Bundle whose resources are not decoded yet."""

    resourceType: Any = None
    type: Any = None
    total: Any = None
    link: Any = None
    entry: list[BundleEntry] | None = None

    @property
    def resources(self) -> Iterator[bytes]:
        """The JSON of every resource; an entry may have none."""
        return (bytes(item.resource) for item in self.entry or () if item.resource is not _ABSENT)

    def parsed(self) -> Resource:
        """Returns the whole Bundle as a dictionary."""
        whole: Resource = decode_json(msgspec.json.encode(self))
        return whole


_BUNDLE = msgspec.json.Decoder(Bundle)
_MEMBERS = BundleEntry.__struct_fields__[1:]


def decoded(raw: bytes | msgspec.Raw) -> Bundle:
    """Returns the Bundle in these bytes. Raises msgspec.DecodeError."""
    return _BUNDLE.decode(raw)


def unread(raw: bytes) -> Bundle | None:
    """Returns the Bundle in these bytes with its resources not decoded; None for anything else."""
    try:
        bundle = _BUNDLE.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return bundle if bundle.resourceType == "Bundle" else None


def read_bundle(bundle: Bundle | Resource, *, name: str, resource_type: str | None = None) -> ParsedInput:
    """Returns the entries of one Bundle. If it is incomplete, so is `resource_type` (by default every type in it).

    `name` is the Bundle's place in the input, for errors. A Bundle that is a dictionary is serialised again first:
    its resources are decoded faster from bytes. Raises InvalidInputError for an entry that is not a resource.
    """
    if isinstance(bundle, Bundle):
        return _read_bundle(bundle, name, resource_type)
    try:
        facts = _BUNDLE.decode(orjson.dumps(bundle))
    except (TypeError, msgspec.DecodeError):  # not from JSON, or not a Bundle: `_facts` raises the precise error
        facts = _facts(bundle, name)
    return _read_bundle(facts, name, resource_type)


def _facts(bundle: Resource, name: str) -> Bundle:
    raw = bundle.get("entry")
    if not isinstance(raw, list | None):
        raise InvalidInputError("Bundle.entry is not a list", position=f"{name}.entry")
    items = []
    for number, item in enumerate(raw or ()):
        if not isinstance(item, dict):
            raise InvalidInputError("the Bundle entry is not an object", position=f"{name}.entry[{number}]")
        resource: Any = item.get("resource")
        items.append(BundleEntry(resource, *(item.get(member) for member in _MEMBERS)))
    return Bundle("Bundle", bundle.get("type"), bundle.get("total"), bundle.get("link"), items)


def _read_bundle(bundle: Bundle, name: str, resource_type: str | None, depth: int = 0) -> ParsedInput:
    """Returns the entries of a Bundle and of the Bundles nested in it (batch responses)."""
    entries: list[ResourceEntry] = []
    refused: list[Refusal] = []
    nested: list[ParsedInput] = []
    deletions: list[_Deletion] = []
    broken = False
    for number, item in enumerate(bundle.entry or ()):
        place = f"{name}.entry[{number}]"
        if item.request is not None and (key := _deleted(item)):
            deletions.append(_Deletion(key, len(entries), _deleted_at(item.response)))
            refused.append(Refusal(key, "deleted"))
            continue
        read = _read_entry(item, place)
        if isinstance(read, Refusal):
            refused.append(read)
            broken = broken or read.reason == "operation-outcome"
        elif read is not None and read.kind == "Bundle" and depth < _DEEPEST_BUNDLE:
            nested.append(_read_bundle(_facts(read.resource, place), place, resource_type, depth + 1))
            entries.extend(nested[-1].entries)
            refused.extend(nested[-1].refused)
        elif read is not None:
            entries.append(read)
    if deletions or bundle.type == "history":
        entries = list(_without_deleted(entries, deletions, newest_first=bundle.type == "history"))
    reasons = list(_incompleteness(bundle, entries))
    refused.extend(Refusal(name, reason) for reason in reasons)
    kinds = frozenset({resource_type} if resource_type else {entry.kind for entry in entries})
    failed_kinds = frozenset[str]().union(kinds if broken else (), *(inner.broken for inner in nested))
    incomplete = failed_kinds.union(kinds if reasons else (), *(inner.incomplete for inner in nested))
    pages = [page for inner in nested for page in inner.pages]
    if _of_search(bundle):
        pages.append(_page(bundle, name, entries, tuple(reasons), kinds))
    return ParsedInput(tuple(entries), tuple(refused), incomplete, failed_kinds, pages=tuple(pages))


def _read_entry(item: BundleEntry, place: str) -> ResourceEntry | Refusal | None:
    """Returns the resource of an entry, why there is none, or None for an OperationOutcome that only informs.

    The reason `operation-outcome` means that matches are missing. Raises InvalidInputError if it is not a resource.
    """
    mode = item.search.get("mode") if isinstance(item.search, dict) else None
    failed = item.response is not None and _failed(item.response)
    if item.resource is None or item.resource == _ABSENT:
        return Refusal(place, "operation-outcome" if failed else "entry-without-resource")
    url = item.fullUrl if isinstance(item.fullUrl, str) else None
    try:
        entry = ResourceEntry(item.resource, url, include=mode == "include")
    except InvalidInputError as error:
        raise InvalidInputError(str(error), position=f"{place}.resource") from None
    if item.modifierExtension:
        return Refusal(place, "modifier-extension")
    outcome = entry.kind == "OperationOutcome"
    if outcome and not failed and not withholds(entry.resource):
        return None
    return Refusal(place, "operation-outcome") if outcome or mode == "outcome" or failed else entry


def _page(
    bundle: Bundle, name: str, entries: list[ResourceEntry], reasons: tuple[str, ...], kinds: frozenset[str]
) -> SearchPage:
    matches = sum(not entry.include for entry in entries)
    total = bundle.total if isinstance(bundle.total, int) and not isinstance(bundle.total, bool) else None
    links = _links(bundle)
    return SearchPage(name, links.get("self"), links.get("next"), matches, total, reasons, kinds)


def _of_search(bundle: Bundle) -> bool:
    return bundle.type is None or str(bundle.type) in _OF_SEARCHES


def _links(bundle: Bundle) -> dict[str, str | None]:
    """Returns the links of a Bundle by relation; None for one without a URL."""
    listed = bundle.link if isinstance(bundle.link, list) else []
    found = ((str(link.get("relation")), link.get("url")) for link in listed if isinstance(link, dict))
    return {relation: url if isinstance(url, str) else None for relation, url in found}


# Codes of issues that say that results are missing, whatever their severity (https://hl7.org/fhir/valueset-issue-type.html).
_WITHHELD = frozenset(
    {"security", "login", "unknown", "expired", "forbidden", "suppressed", "too-costly", "too-long", "transient",
     "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"}
)  # fmt: skip
_OF_SEARCHES = frozenset({"searchset", "collection"})
_HARMLESS = frozenset({"information", "warning", "success"})


def withholds(outcome: Resource) -> bool:
    """Whether an OperationOutcome beside matches says that results are missing: an error, or an issue that says so.

    A search may return one that only informs or warns (https://hl7.org/fhir/R4/search.html#errors).

    >>> withholds({"issue": [{"severity": "warning", "code": "not-supported"}]})
    False
    >>> withholds({"issue": [{"severity": "warning", "code": "suppressed"}]}), withholds({"issue": []})
    (True, True)
    """
    issues = outcome.get("issue")
    if not isinstance(issues, list) or not issues:
        return True
    return any(
        not isinstance(issue, dict)
        or str(issue.get("severity")) not in _HARMLESS
        or str(issue.get("code")) in _WITHHELD
        for issue in issues
    )


class _Deletion(NamedTuple):
    """A deleted resource: its key, the number of entries before the deletion, and its time."""

    key: str
    entries_before: int
    at: Instant | None


def _deleted(item: BundleEntry) -> str | None:
    """Returns the key of the resource that a history entry marks as deleted, or None."""
    request = item.request
    if not isinstance(request, dict) or request.get("method") != "DELETE":
        return None
    urls = (request.get("url"), item.fullUrl)
    found = (_KEY.search(url) for url in urls if isinstance(url, str))
    return next((match["key"] for match in found if match), None)


def _deleted_at(response: Any) -> Instant | None:
    return parse_instant(response.get("lastModified")) if isinstance(response, dict) else None


def _without_deleted(
    entries: list[ResourceEntry], deletions: list[_Deletion], *, newest_first: bool
) -> Iterator[ResourceEntry]:
    """Yields the entries without those deleted after they were written.

    A history lists the newest first (https://hl7.org/fhir/R4/http.html#history): if the versions of a resource have
    neither `lastUpdated` nor `versionId`, the first counts.
    """
    seen: set[str] = set()
    for position, entry in enumerate(entries):
        key, meta = entry.source(position), entry.resource.get("meta")
        written = parse_instant(meta.get("lastUpdated")) if isinstance(meta, dict) else None
        has_version = written is not None or (isinstance(meta, dict) and bool(meta.get("versionId")))
        if any(deletion.key == key and _before(position, written, deletion) for deletion in deletions):
            continue
        if not newest_first or has_version or key not in seen:
            yield entry
        seen.add(key)


def _before(position: int, written: Instant | None, deletion: _Deletion) -> bool:
    """Whether the entry at this position was written before the deletion."""
    return (
        position >= deletion.entries_before
        if written is None or deletion.at is None
        else written.latest <= deletion.at.latest
    )


def _failed(response: Any) -> bool:
    """Whether a batch response reports an error (4xx or 5xx) for this entry."""
    status = response.get("status") if isinstance(response, dict) else None
    return isinstance(status, str) and status.startswith(("4", "5"))


def _incompleteness(bundle: Bundle, entries: list[ResourceEntry]) -> Iterator[str]:
    """Yields the reasons why matches are missing from a searchset, or from the collection some servers answer with."""
    if "next" in _links(bundle):
        yield "more-pages"
        return
    total = bundle.total if _of_search(bundle) else None
    if isinstance(total, int) and not isinstance(total, bool) and total > sum(not entry.include for entry in entries):
        yield "truncated"
