"""Resolves references (relative, absolute, urn:uuid, versioned) and checks which patient a resource belongs to.

FHIR R4 references (https://hl7.org/fhir/R4/references.html) and Bundle resolution (bundle.html#references).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from fhir_mapping.parsing.elements import Raw, Resource, fragment
from fhir_mapping.parsing.resource_reader import ResourceEntry

_HISTORY = re.compile(r"/_history/[^/]+\Z")
_ABSOLUTE = re.compile(r"(?i:https?)://(?P<base>.+)/(?P<key>[A-Z][A-Za-z]+/[A-Za-z0-9\-._]{1,64})\Z")
WEB = ("http", "HTTP", "Http")
_IMPLIED_PORT = re.compile(r":(?:443|80)\Z")
_RELATIVE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-._]{1,64}\Z")


class Ownership(StrEnum):
    """Whether a subject is the record's patient, another patient, or cannot be proven to be either."""

    OURS = "ours"
    FOREIGN = "foreign"
    UNPROVABLE = "unprovable"
    NO_PATIENT = "no-patient"
    """The subject is a Group, a Device or a Location."""


def base_of(url: str | None) -> str | None:
    """Returns the server part of a resource URL, without scheme (http and https are equal) and default port, or None.

    >>> base_of("https://EHR.example:443/fhir/Patient/p/_history/2")
    'ehr.example/fhir'
    """
    found = _ABSOLUTE.match(_HISTORY.sub("", url)) if url and url.startswith(WEB) else None
    if found is None:
        return None
    host, slash, path = found["base"].partition("/")
    return _IMPLIED_PORT.sub("", host.lower()) + slash + path


class Directory:
    """Resolves the references of one input; the resources of a type are indexed on first use."""

    def __init__(
        self, entries: Sequence[ResourceEntry], translate: Callable[[Resource], Resource] | None = None
    ) -> None:
        self._entries = entries
        self._translate = translate
        self.by_url: dict[str, int] = {}
        self._all_servers: set[str] = set()
        self._servers: dict[str, set[str]] = {}
        self._keys: dict[str, str | None] = {}
        self._owners: dict[tuple[str | bytes, str, str | None], Ownership] = {}
        self._by_kind: dict[str, dict[str, ResourceEntry]] = {}
        self._is_known: Callable[[str, Resource], bool] = lambda _key, _resource: True
        for position, entry in enumerate(entries):
            url = entry.full_url
            if url:
                self.by_url[_HISTORY.sub("", url) if "/_history/" in url else url] = position
                if url.startswith(WEB):
                    self._register_server(entry, position, url)

    def _register_server(self, entry: ResourceEntry, position: int, url: str) -> None:
        base = base_of(url)
        if base is not None:
            self._all_servers.add(base)
            if entry.kind == "Patient":
                self._servers.setdefault(entry.source(position), set()).add(base)

    @classmethod
    def of(cls, entries: Sequence[ResourceEntry], translate: Callable[[Resource], Resource] | None = None) -> Directory:
        """Returns a directory of `entries`; `translate` maps local codes of resolved resources to standard ones."""
        return cls(entries, translate)

    def servers_of(self, patient: str) -> frozenset[str]:
        """Returns the servers that host this Patient according to the fullUrls."""
        return frozenset(self._servers.get(patient, ()))

    def _of_kind(self, kind: str) -> dict[str, ResourceEntry]:
        """Returns the entries of one type by key; only referenced types are ever indexed."""
        if kind not in self._by_kind:
            listed = enumerate(self._entries)
            self._by_kind[kind] = {entry.source(n): entry for n, entry in listed if entry.kind == kind}
        return self._by_kind[kind]

    def key(self, reference: Any) -> str | None:
        """Returns `Type/id` of a Reference (or its text), or None if unknown. `#contained` is not resolved here."""
        text = reference.get("reference") if isinstance(reference, dict) else reference
        if not isinstance(text, str):
            return None
        if text not in self._keys:  # a chart repeats its subject thousands of times
            self._keys[text] = self._key(_HISTORY.sub("", text))
        return self._keys[text]

    def _key(self, text: str) -> str | None:
        position = self.by_url.get(text)
        if position is not None:
            return self._entries[position].source(position)
        if _RELATIVE.match(text):
            return text
        absolute = _ABSOLUTE.match(text)
        return absolute["key"] if absolute and base_of(text) in self._all_servers else None

    def restrict(self, is_known: Callable[[str, Resource], bool]) -> None:
        """Limits references to resources for which `is_known(key, resource)` is true."""
        self._is_known = is_known

    def find(self, key: str) -> Resource | None:
        """Returns the resource of a key, even if not known at the prediction time; None if not in the input."""
        entry = self._of_kind(key.partition("/")[0]).get(key)
        return None if entry is None else self._translated(entry.resource)

    def resolve(self, reference: Any, container: Resource | None = None) -> Resource | None:
        """Returns the referenced resource, also one contained in `container`; None if it is not in the input.

        Resources with a modifierExtension, or not known at the prediction time, are not resolved.
        """
        text = reference.get("reference") if isinstance(reference, dict) else None
        if isinstance(text, str) and text.startswith("#") and container is not None:
            inner = contained(container, text[1:])
            return inner if inner is not None and self._is_known(text, inner) else None
        key = self.key(reference)
        entry = None if key is None else self._of_kind(key.partition("/")[0]).get(key)
        if key is None or entry is None or entry.resource.get("modifierExtension"):
            return None
        return self._translated(entry.resource) if self._is_known(key, entry.resource) else None

    def _translated(self, resource: Resource) -> Resource:
        return resource if self._translate is None else self._translate(resource)

    def ownership(self, reference: Any, patient: str, full_url: str | None = None) -> Ownership:
        """Returns whether a subject is proven to be `patient` (`Patient/p1`), proven to be another, or neither.

        An absolute URL on another server than the Patient's is another patient even with the same id. A display
        alone, a contained patient, a urn without its entry, or a relative reference in a resource that is itself
        (`full_url`) on another server prove nothing. `reference` may be its bytes.
        """
        if isinstance(reference, Raw):
            text: Any = bytes(reference)
        else:
            text = reference.get("reference") if isinstance(reference, dict) else None
            if not isinstance(text, str):
                return Ownership.UNPROVABLE
        asked = (text, patient, base_of(full_url) if full_url and full_url.startswith(WEB) else None)
        found = self._owners.get(asked)
        if found is None:
            found = self._owners[asked] = self._ownership(reference, patient, asked[2])
        return found

    def _ownership(self, reference: Any, patient: str, base: str | None) -> Ownership:
        if isinstance(reference, Raw):
            reference = fragment(reference)
        text = reference.get("reference") if isinstance(reference, dict) else None
        if not isinstance(text, str):
            return Ownership.UNPROVABLE
        text = _HISTORY.sub("", text)
        absolute = _ABSOLUTE.match(text)
        position = self.by_url.get(text)
        if position is not None:
            key: str | None = self._entries[position].source(position)
        else:
            key = absolute["key"] if absolute else text if _RELATIVE.match(text) else None
        if key is None:
            return Ownership.UNPROVABLE
        if not key.startswith("Patient/"):
            return Ownership.NO_PATIENT
        server = self._server_of(patient)
        if absolute:
            if server is None:
                return Ownership.UNPROVABLE
            return Ownership.OURS if key == patient and base_of(text) == server else Ownership.FOREIGN
        if key == patient and server is not None and (base or server) != server:
            return Ownership.UNPROVABLE
        return Ownership.OURS if key == patient else Ownership.FOREIGN

    def _server_of(self, patient: str) -> str | None:
        """Returns the Patient's server: that of its fullUrl, else the only server of the input, else None."""
        servers = self._servers.get(patient) or self._all_servers
        return next(iter(servers)) if len(servers) == 1 else None


def contained(container: Resource, identifier: str) -> Resource | None:
    """Returns the resource contained in `container` with this id, or None."""
    options = container.get("contained")
    listed = options if isinstance(options, list) else []
    found = next((r for r in listed if isinstance(r, dict) and r.get("id") == identifier), None)
    return None if found is None or found.get("modifierExtension") else found
