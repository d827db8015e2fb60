"""References and whose resource it is: relative, absolute, urn:uuid, versioned; proven, or not used.

FHIR R4 references (https://hl7.org/fhir/R4/references.html) and Bundle resolution (bundle.html#references).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from fhir_mapping.reading import Entry, Resource

_HISTORY = re.compile(r"/_history/[^/]+\Z")
_ABSOLUTE = re.compile(r"(?P<base>https?://.+)/(?P<key>[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})\Z")
_RELATIVE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}\Z")


class Ownership(StrEnum):
    OURS = "ours"
    FOREIGN = "foreign"
    UNPROVABLE = "unprovable"


class Directory:
    """Where every reference of one input leads; the resources themselves are indexed when one is first asked for."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self.by_url: dict[str, int] = {}
        self._bases: set[str] = set()
        self._keys: dict[str, str | None] = {}
        self._by_kind: dict[str, dict[str, Entry]] = {}
        for position, entry in enumerate(entries):
            if entry.full_url:
                self.by_url[entry.full_url] = position
                absolute = _ABSOLUTE.match(entry.full_url)
                if absolute:
                    self._bases.add(absolute["base"])

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Directory:
        return cls(entries)

    def _of_kind(self, kind: str) -> dict[str, Entry]:
        """The entries of one type by their key; only types that are pointed at are ever indexed."""
        if kind not in self._by_kind:
            listed = enumerate(self._entries)
            self._by_kind[kind] = {entry.source(n): entry for n, entry in listed if entry.kind == kind}
        return self._by_kind[kind]

    def key(self, reference: Any) -> str | None:
        """`Type/id` of a Reference (or its text) when it can be told, else None. `#contained` is not looked up here."""
        text = reference.get("reference") if isinstance(reference, dict) else reference
        if not isinstance(text, str):
            return None
        if text not in self._keys:  # a chart says whose it is thousands of times
            self._keys[text] = self._key(_HISTORY.sub("", text))
        return self._keys[text]

    def _key(self, text: str) -> str | None:
        position = self.by_url.get(text)
        if position is not None:
            return self._entries[position].source(position)
        if _RELATIVE.match(text):
            return text
        absolute = _ABSOLUTE.match(text)
        return absolute["key"] if absolute and absolute["base"] in self._bases else None

    def resolve(self, reference: Any, container: Resource | None = None) -> Resource | None:
        """The resource a reference means, also one contained in `container`; None when it is not in the input."""
        text = reference.get("reference") if isinstance(reference, dict) else None
        if isinstance(text, str) and text.startswith("#") and container is not None:
            contained = container.get("contained")
            options = contained if isinstance(contained, list) else []
            return next((r for r in options if isinstance(r, dict) and r.get("id") == text[1:]), None)
        key = self.key(reference)
        entry = None if key is None else self._of_kind(key.partition("/")[0]).get(key)
        return None if entry is None else entry.resource

    def ownership(self, reference: Any, patient: str) -> Ownership:
        """Whether a subject is proven to be `patient` (`Patient/p1`), proven to be another, or neither.

        An absolute URL on a server this input did not come from is another patient even with the same id; a display
        alone, a contained patient, or a urn without its entry proves nothing.
        """
        text = reference.get("reference") if isinstance(reference, dict) else None
        if not isinstance(text, str):
            return Ownership.UNPROVABLE
        key = self.key(text)
        if key is not None:
            return Ownership.OURS if key == patient else Ownership.FOREIGN
        absolute = _ABSOLUTE.match(_HISTORY.sub("", text))
        if absolute and self._bases:
            return Ownership.FOREIGN
        return Ownership.UNPROVABLE
