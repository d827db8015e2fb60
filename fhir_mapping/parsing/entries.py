"""A resource and where it came from; bytes become a dictionary only when somebody reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

import msgspec

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.core.values import Refusal
from fhir_mapping.parsing.elements import (
    OBSERVATION,
    WHOSE,
    Observation,
    OwnerElements,
    Resource,
    decode_json,
    elements,
)

_ID = re.compile(r"[A-Za-z0-9\-._]{1,64}\Z")  # the underscore is not FHIR's, and common all the same
_NAMED_BY_URL = re.compile(r"(?:urn:uuid:|.*/)(?P<id>[A-Za-z0-9\-._]{1,64})\Z")
_KIND = re.compile(rb'\s*\{\s*"resourceType"\s*:\s*"([A-Za-z]+)"')
_WRITTEN_WHOLE = frozenset({"Composition"})  # its text may stand in any element
_T = TypeVar("_T")


class _Identity(TypedDict, total=False):
    resourceType: Any
    id: Any


_IDENTITY = msgspec.json.Decoder(_Identity)


class ResourceEntry(msgspec.Struct, gc=False):
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
                self._resource = decode_json(bytes(self._raw))
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
    def whose(self) -> OwnerElements:
        """Whose it is; of a type nobody reads nothing else is decoded."""
        return self._decoded(WHOSE.decode) or OwnerElements.of(self.resource)

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
class ParsedInput:
    """What was read: entries in input order, and what could not be."""

    entries: tuple[ResourceEntry, ...]
    refused: tuple[Refusal, ...] = ()
    incomplete: frozenset[str] = field(default_factory=frozenset)
    """Resource types of which the input says itself that it is not everything."""
    population: bool = False
    """True for NDJSON, where many patients may stand side by side."""


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
