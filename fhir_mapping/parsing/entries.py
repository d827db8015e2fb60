"""A resource with its fullUrl; bytes are decoded only when an element is first used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypedDict, TypeVar

import msgspec

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.elements import (
    OBSERVATION,
    OWNER,
    Observation,
    OwnerElements,
    Resource,
    decode_json,
    elements,
)

_ID = re.compile(r"[A-Za-z0-9\-._]{1,64}\Z")  # FHIR forbids the underscore, but it is common
_NAMED_BY_URL = re.compile(r"(?:urn:uuid:|.*/)(?P<id>[A-Za-z0-9\-._]{1,64})\Z")
_KIND = re.compile(rb'\s*\{\s*"resourceType"\s*:\s*"([A-Za-z]+)"')
_DECODED_IN_FULL = frozenset({"Composition"})  # its text may be in any element
_T = TypeVar("_T")


class _Identity(TypedDict, total=False):
    resourceType: Any
    id: Any


_IDENTITY = msgspec.json.Decoder(_Identity)


class ResourceEntry(msgspec.Struct, gc=False):
    """A resource, its fullUrl, and whether it is a match or (`include`) only a target of references.

    `content` is a dictionary, or bytes known to be JSON, which are decoded on first use. Raises InvalidInputError if it
    is not a resource.
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
                self._resource = decode_json(bytes(self._raw))
            except InvalidInputError as error:
                raise InvalidInputError(str(error), position=f"a {self.kind}") from None
        return self._resource

    @property
    def elements(self) -> Resource:
        """The used elements of a type other than Observation; the whole resource if it is decoded already, or may
        contain a modifierExtension."""
        if self._elements is None:
            partly = self._resource is None and self.kind not in _DECODED_IN_FULL and self.unmodified
            self._elements = (self._decoded(elements) if partly else None) or self.resource
        return self._elements

    @property
    def observation(self) -> Observation:
        """The used elements of an Observation."""
        if self._observation is None:
            self._observation = self._decoded(OBSERVATION.decode) or Observation.of(self.resource)
        return self._observation

    @property
    def owner(self) -> OwnerElements:
        """Id, subject and focus; of an unmapped type nothing else is decoded."""
        return self._decoded(OWNER.decode) or OwnerElements.of(self.resource)

    @property
    def unmodified(self) -> bool:
        """True if it has no modifierExtension: its bytes contain neither the word nor an escape that could spell it."""
        if self._unmodified is None:
            text = b"modifierExtension" if self._raw is None else bytes(self._raw)
            self._unmodified = b"modifierExtension" not in text and not (b"\\" in text and b"\\u" in text)
        return self._unmodified

    def source(self, position: int) -> str:
        """Returns the key, such as `Observation/o1`; see `source_of`."""
        if self._observation is not None:
            identifier = self._observation.id
        else:
            known = self._elements or self._resource
            identifier = self.owner.id if known is None else known.get("id")
        return named(self.kind, identifier, position, self.full_url)

    def _decoded(self, decode: Callable[[msgspec.Raw | bytes], _T]) -> _T | None:
        """Returns None if it is a dictionary already, or has a wrong type or a number too large for a float."""
        if self._raw is None:
            return None
        try:
            return decode(self._raw)
        except msgspec.DecodeError:
            return None


class SearchPage(NamedTuple):
    """One page of a search: its place and URLs, its number of matches and that of all pages, why it is incomplete."""

    name: str
    own: str | None
    following: str | None
    matches: int
    total: int | None
    reasons: tuple[str, ...]
    incomplete: frozenset[str]


@dataclass(frozen=True, slots=True)
class ParsedInput:
    """The entries in input order, and what could not be used."""

    entries: tuple[ResourceEntry, ...]
    refused: tuple[Refusal, ...] = ()
    incomplete: frozenset[str] = field(default_factory=frozenset)
    """Resource types that the input itself marks as incomplete."""
    broken: frozenset[str] = field(default_factory=frozenset)
    """Those of them that are incomplete for a reason other than missing pages."""
    population: bool = False
    """True for NDJSON, which may contain many patients."""
    pages: tuple[SearchPage, ...] = ()
    """The pages of searches among the input."""

    @classmethod
    def merged(cls, parts: Iterable[ParsedInput]) -> ParsedInput:
        """Returns several inputs as one: what is missing from one of them is missing, unless another has it.

        A searchset with a next page is complete if that page is among the parts.
        """
        parts = list(parts)
        whole = cls(
            entries=tuple(entry for part in parts for entry in part.entries),
            refused=tuple(refusal for part in parts for refusal in part.refused),
            incomplete=frozenset[str]().union(*(part.incomplete for part in parts)),
            broken=frozenset[str]().union(*(part.broken for part in parts)),
            population=any(part.population for part in parts),
            pages=tuple(page for part in parts for page in part.pages),
        )
        return whole if len(whole.pages) < 2 else _with_pages_joined(whole)


def _with_pages_joined(whole: ParsedInput) -> ParsedInput:
    """Returns the input without the gaps of searches all of whose pages are there."""
    by_url: dict[str | None, SearchPage] = {page.own: page for page in whole.pages if page.own is not None}
    led_to = {page.following for page in whole.pages}
    refused, complete = list(whole.refused), set[SearchPage]()
    for first in whole.pages:
        chain = [] if first.own is not None and first.own in led_to else _chain(first, by_url)
        total = max((page.total for page in chain if page.total is not None), default=0)
        if chain and chain[-1].following is None and sum(page.matches for page in chain) >= total:
            complete.update(chain)
    for page in complete:
        for reason in page.reasons:
            refused.remove(Refusal(page.name, reason))
    lacking = {kind for page in whole.pages if page not in complete and page.reasons for kind in page.incomplete}
    filled = {kind for page in complete if page.reasons for kind in page.incomplete} - lacking
    return replace(
        whole,
        refused=tuple(refused),
        incomplete=(whole.incomplete - filled) | whole.broken,
        pages=tuple(page._replace(reasons=()) if page in complete else page for page in whole.pages),
    )


def _chain(first: SearchPage, by_url: Mapping[str | None, SearchPage]) -> list[SearchPage]:
    """Returns the pages of one search in order, as far as they are there."""
    chain: list[SearchPage] = []
    page: SearchPage | None = first
    while page is not None and page not in chain:
        chain.append(page)
        page = None if page.following is None else by_url.get(page.following)
    return chain


def _kind_of(raw: msgspec.Raw | bytes) -> str:
    """Returns `resourceType`, which nearly every writer puts first. Raises InvalidInputError if there is none."""
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
        raise InvalidInputError("the resource has no resourceType")
    return kind


def source_of(resource: Resource, position: int, full_url: str | None = None) -> str:
    """Returns the key `Type/id`; without a valid id the last part of the fullUrl, else the position in the input.

    >>> source_of({"resourceType": "Patient"}, 3, "urn:uuid:4f2a"), source_of({"resourceType": "Patient"}, 3)
    ('Patient/4f2a', 'Patient/#3')
    """
    return named(resource["resourceType"], resource.get("id"), position, full_url)


def named(kind: str, identifier: Any, position: int, full_url: str | None) -> str:
    """Returns the key of a type and an id; see `source_of`."""
    if isinstance(identifier, str) and _ID.match(identifier):
        return f"{kind}/{identifier}"
    found = _NAMED_BY_URL.match(full_url) if full_url else None
    return f"{kind}/{found['id']}" if found else f"{kind}/#{position}"
