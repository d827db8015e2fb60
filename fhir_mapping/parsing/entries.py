"""A resource with its fullUrl; bytes are decoded only when an element is first used."""

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


@dataclass(frozen=True, slots=True)
class ParsedInput:
    """The entries in input order, and what could not be used."""

    entries: tuple[ResourceEntry, ...]
    refused: tuple[Refusal, ...] = ()
    incomplete: frozenset[str] = field(default_factory=frozenset)
    """Resource types that the input itself marks as incomplete."""
    population: bool = False
    """True for NDJSON, which may contain many patients."""


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
