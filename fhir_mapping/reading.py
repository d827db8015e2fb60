"""Bytes to resources: a Bundle, one resource, a list of them, or NDJSON; strict JSON throughout.

A chart of seven megabytes is half claims, provenance and results that no feature asks for. So the whole input is
checked as JSON once, but a resource becomes a dictionary only when somebody reads it (`Entry.resource`). Nothing is
validated against the whole of FHIR here; that costs seconds on a real chart. Each reader of a resource type checks what
it uses.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

import msgspec
import orjson

from fhir_mapping.elements import OBSERVATION, WHOSE, Observation, Resource, Whose, elements, loads
from fhir_mapping.errors import InvalidInputError
from fhir_mapping.values import Refusal

__all__ = [
    "Bundle", "Entry", "Reading", "Resource", "check_utf8", "named", "read_bundle", "read_bytes", "source_of",
    "unread",
]  # fmt: skip

_ID = re.compile(r"[A-Za-z0-9\-._]{1,64}\Z")  # the underscore is not FHIR's, and common all the same
_NAMED_BY_URL = re.compile(r"(?:urn:uuid:|.*/)(?P<id>[A-Za-z0-9\-._]{1,64})\Z")
_DEEPEST_BUNDLE = 4
_KIND = re.compile(rb'\s*\{\s*"resourceType"\s*:\s*"([A-Za-z]+)"')
_ARRAY = re.compile(rb"\s*\[")
_BOM = b"\xef\xbb\xbf"
_ABSENT = msgspec.Raw(b"null")
_CHUNK = 2**20
_WRITTEN_WHOLE = frozenset({"Composition"})  # its text may stand in any element
_T = TypeVar("_T")


class _Identity(TypedDict, total=False):
    resourceType: Any
    id: Any


class Item(msgspec.Struct, gc=False, omit_defaults=True):
    """One Bundle.entry, its resource left as bytes."""

    resource: msgspec.Raw = _ABSENT
    fullUrl: Any = None
    search: Any = None
    response: Any = None
    modifierExtension: Any = None


class Bundle(msgspec.Struct, omit_defaults=True):
    """A Bundle whose resources nobody has read yet."""

    resourceType: Any = None
    type: Any = None
    total: Any = None
    link: Any = None
    entry: list[Item] | None = None

    @property
    def resources(self) -> Iterator[bytes]:
        """As they came; an entry may have none."""
        return (bytes(item.resource) for item in self.entry or () if item.resource is not _ABSENT)

    def find(self, identifier: str) -> Resource | None:
        """The first resource with this id."""
        word = identifier.encode()
        told = (loads(resource) for resource in self.resources if word in resource)
        return next((found for found in told if isinstance(found, dict) and found.get("id") == identifier), None)

    def parsed(self) -> Resource:
        """As a dictionary, in full."""
        whole: Resource = loads(msgspec.json.encode(self))
        return whole


_JSON = msgspec.json.Decoder(msgspec.Raw)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_BUNDLE = msgspec.json.Decoder(Bundle)
_IDENTITY = msgspec.json.Decoder(_Identity)


class Entry(msgspec.Struct, gc=False):
    """A resource, where it came from, and whether it is data or (`include`) only something references may point at.

    Made of a dictionary, or of bytes known to be JSON, which are decoded when they are first read. Raises
    InvalidInputError for what is no resource.
    """

    content: Resource | msgspec.Raw | bytes
    full_url: str | None = None
    include: bool = False
    kind: str = ""
    _raw: msgspec.Raw | bytes | None = None
    _resource: Resource | None = None
    _elements: Resource | None = None
    _observation: Observation | None = None
    _unmodified: bool | None = None

    def __post_init__(self) -> None:
        if isinstance(self.content, (msgspec.Raw, bytes)):
            self._raw, self.kind = self.content, _kind_of(self.content)
        else:
            self._resource, self.kind = self.content, _kind(self.content)

    @property
    def resource(self) -> Resource:
        """The whole resource."""
        if self._resource is None:
            assert self._raw is not None
            try:
                self._resource = loads(bytes(self._raw))
            except InvalidInputError as error:
                raise InvalidInputError(str(error), position=f"a {self.kind}") from None
        return self._resource

    @property
    def elements(self) -> Resource:
        """The elements that are read of a type that is no Observation; the whole resource where that is here already,
        or where a modifierExtension may stand anywhere in it."""
        if self._elements is None:
            partly = self._resource is None and self.kind not in _WRITTEN_WHOLE and self.unmodified
            self._elements = (self._decoded(elements) if partly else None) or self.resource
        return self._elements

    @property
    def observation(self) -> Observation:
        """What is read of an Observation."""
        if self._observation is None:
            self._observation = self._decoded(OBSERVATION.decode) or Observation.of(self.resource)
        return self._observation

    @property
    def whose(self) -> Whose:
        """Whose it is; of a type nobody reads nothing else is decoded."""
        return self._decoded(WHOSE.decode) or Whose.of(self.resource)

    @property
    def unmodified(self) -> bool:
        """Known to hold no modifierExtension: the word is not in its bytes, nor any escape that could spell it."""
        if self._unmodified is None:
            text = b"modifierExtension" if self._raw is None else bytes(self._raw)
            self._unmodified = b"modifierExtension" not in text and not (b"\\" in text and b"\\u" in text)
        return self._unmodified

    def source(self, position: int) -> str:
        """`Observation/o1`; without a usable id the last part of the fullUrl, else the place in the input."""
        if self._observation is not None:
            identifier = self._observation.id
        else:
            known = self._elements or self._resource
            identifier = self.whose.id if known is None else known.get("id")
        return named(self.kind, identifier, position, self.full_url)

    def _decoded(self, decode: Callable[[msgspec.Raw | bytes], _T]) -> _T | None:
        """None where the typed decoder cannot: of a dictionary, for a wrong type or a number beyond any float."""
        if self._raw is None:
            return None
        try:
            return decode(self._raw)
        except msgspec.DecodeError:
            return None


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
    data = data.removeprefix(_BOM)
    if not data or data.isspace():
        raise InvalidInputError("the input is empty; expected a FHIR Bundle, a list of resources, or NDJSON")
    check_utf8(data)
    try:
        return _from_root(data)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"not a Bundle, a list of resources or NDJSON: {error}") from None
    except msgspec.DecodeError as error:
        lines = _ndjson(data)
        if lines is None:
            raise _not_json(error, len(data)) from None
        return lines
    except RecursionError:
        raise InvalidInputError("not valid JSON: nests too deep") from None


def check_utf8(data: bytes) -> None:
    """Raises InvalidInputError, with the place, for bytes that are not UTF-8; strings nobody reads are not decoded."""
    if data.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(data)
    for start in range(0, len(data), _CHUNK):
        try:
            decoder.decode(view[start : start + _CHUNK], final=start + _CHUNK >= len(data))
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                "not valid JSON: the bytes are not UTF-8", position=f"about byte {start + error.start}"
            ) from None


def _not_json(error: msgspec.DecodeError, size: int) -> InvalidInputError:
    """Our error for msgspec's, which ends in `(byte 12)` or says that the input was truncated."""
    message, _, place = str(error).removeprefix("JSON is malformed: ").partition(" (byte ")
    return InvalidInputError(f"not valid JSON: {message}", position=f"byte {place.rstrip(')') or size}")


def _ndjson(data: bytes) -> Reading | None:
    """NDJSON, or None when the first line is not an object by itself (then the JSON error tells more)."""
    entries: list[Entry] = []
    for number, line in enumerate(io.BytesIO(data), start=1):
        if line.isspace():
            continue
        try:
            _JSON.decode(line)
        except msgspec.DecodeError as error:
            if not entries:
                return None
            raise InvalidInputError(f"not valid JSON: {error}", position=f"line {number}") from None
        entries.append(_entry(line, f"line {number}"))
    return Reading(tuple(entries), population=True)


def _from_root(data: bytes) -> Reading:
    if _ARRAY.match(data) is None:
        return _alone(data, "root")
    parts = [_alone(item, f"[{number}]") for number, item in enumerate(_LIST.decode(data))]
    return Reading(
        entries=tuple(entry for part in parts for entry in part.entries),
        refused=tuple(refusal for part in parts for refusal in part.refused),
        incomplete=frozenset().union(*(part.incomplete for part in parts)),
    )


def _alone(raw: msgspec.Raw | bytes, position: str) -> Reading:
    """A Bundle, or a resource that stands by itself."""
    entry = _entry(raw, position)
    if entry.kind == "Bundle":
        return _read_bundle(_BUNDLE.decode(raw), "Bundle", None)
    _JSON.decode(raw)
    return Reading((entry,))


def _entry(raw: msgspec.Raw | bytes, position: str) -> Entry:
    try:
        return Entry(raw)
    except InvalidInputError as error:
        raise InvalidInputError(str(error), position=position) from None


def _kind_of(raw: msgspec.Raw | bytes) -> str:
    """`resourceType`, which nearly every writer puts first. Raises InvalidInputError where there is none."""
    found = _KIND.match(raw)
    if found:
        return found[1].decode()
    try:
        return _kind(_IDENTITY.decode(raw))
    except msgspec.ValidationError:
        return _kind(None)


def _kind(resource: Any) -> str:
    if not isinstance(resource, dict):
        raise InvalidInputError("expected a FHIR resource (a JSON object)")
    kind = resource.get("resourceType")
    if not isinstance(kind, str):
        raise InvalidInputError("a resource without resourceType")
    return kind


def unread(raw: bytes) -> Bundle | None:
    """The Bundle in these bytes, its resources left as they are; None for anything else."""
    try:
        bundle = _BUNDLE.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return bundle if bundle.resourceType == "Bundle" else None


def read_bundle(bundle: Bundle | Resource, *, name: str, resource_type: str | None = None) -> Reading:
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
        more = (item.get("fullUrl"), item.get("search"), item.get("response"), item.get("modifierExtension"))
        items.append(Item(resource, *more))
    return Bundle("Bundle", bundle.get("type"), bundle.get("total"), bundle.get("link"), items)


def _read_bundle(bundle: Bundle, name: str, resource_type: str | None, depth: int = 0) -> Reading:
    """The entries of a Bundle, and of the Bundles in it (batch responses)."""
    entries: list[Entry] = []
    refused: list[Refusal] = []
    incomplete: set[str] = set()
    broken = False
    for number, item in enumerate(bundle.entry or ()):
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
            entry = Entry(item.resource, url, include=mode == "include")
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
    reasons = list(_incompleteness(bundle, entries)) if bundle.type == "searchset" else []
    refused.extend(Refusal(name, reason) for reason in reasons)
    if broken or reasons:
        incomplete.update([resource_type] if resource_type else {entry.kind for entry in entries})
    return Reading(tuple(entries), tuple(refused), frozenset(incomplete))


def _failed(response: Any) -> bool:
    """Whether a batch response says that this part of it went wrong."""
    status = response.get("status") if isinstance(response, dict) else None
    return isinstance(status, str) and status.startswith(("4", "5"))


def _incompleteness(bundle: Bundle, entries: list[Entry]) -> Iterator[str]:
    links = bundle.link
    relations = {link.get("relation") for link in links if isinstance(link, dict)} if isinstance(links, list) else set()
    if "next" in relations:
        yield "more-pages"
        return
    total = bundle.total
    if isinstance(total, int) and not isinstance(total, bool) and total > sum(not entry.include for entry in entries):
        yield "truncated"


def source_of(resource: Resource, position: int, full_url: str | None = None) -> str:
    """`Observation/o1`; without a usable id the last part of the fullUrl, else the place in the input.

    >>> source_of({"resourceType": "Patient"}, 3, "urn:uuid:4f2a"), source_of({"resourceType": "Patient"}, 3)
    ('Patient/4f2a', 'Patient/#3')
    """
    return named(resource["resourceType"], resource.get("id"), position, full_url)


def named(kind: str, identifier: Any, position: int, full_url: str | None) -> str:
    """`source_of` for a type and an id."""
    if isinstance(identifier, str) and _ID.match(identifier):
        return f"{kind}/{identifier}"
    found = _NAMED_BY_URL.match(full_url) if full_url else None
    return f"{kind}/{found['id']}" if found else f"{kind}/#{position}"
