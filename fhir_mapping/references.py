"""References and whose resource it is: relative, absolute, urn:uuid, versioned; proven, or not used.

FHIR R4 references (https://hl7.org/fhir/R4/references.html) and Bundle resolution (bundle.html#references).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fhir_mapping.reading import Entry, Resource, source_of

_HISTORY = re.compile(r"/_history/[^/]+\Z")
_ABSOLUTE = re.compile(r"(?P<base>https?://.+)/(?P<key>[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})\Z")
_RELATIVE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}\Z")


class Ownership(StrEnum):
    OURS = "ours"
    FOREIGN = "foreign"
    UNPROVABLE = "unprovable"


@dataclass(frozen=True, slots=True)
class Directory:
    """Where every reference of one input leads.

    `by_url` maps a fullUrl (also urn:uuid) to `Type/id`; `bases` are the servers the input itself came from.
    """

    by_key: dict[str, Resource]
    by_url: dict[str, str]
    bases: frozenset[str]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Directory:
        by_key: dict[str, Resource] = {}
        by_url: dict[str, str] = {}
        bases = set()
        for position, entry in enumerate(entries):
            key = source_of(entry.resource, position)
            by_key[key] = entry.resource
            if entry.full_url:
                by_url[entry.full_url] = key
                absolute = _ABSOLUTE.match(entry.full_url)
                if absolute:
                    bases.add(absolute["base"])
        return cls(by_key, by_url, frozenset(bases))

    def key(self, reference: Any) -> str | None:
        """`Type/id` of a Reference (or its text) when it can be told, else None. `#contained` is not looked up here."""
        text = reference.get("reference") if isinstance(reference, dict) else reference
        if not isinstance(text, str):
            return None
        text = _HISTORY.sub("", text)
        if text in self.by_url:
            return self.by_url[text]
        if _RELATIVE.match(text):
            return text
        absolute = _ABSOLUTE.match(text)
        if absolute and absolute["base"] in self.bases:
            return absolute["key"]
        return None

    def resolve(self, reference: Any, container: Resource | None = None) -> Resource | None:
        """The resource a reference means, also one contained in `container`; None when it is not in the input."""
        text = reference.get("reference") if isinstance(reference, dict) else None
        if isinstance(text, str) and text.startswith("#") and container is not None:
            contained = container.get("contained")
            options = contained if isinstance(contained, list) else []
            return next((r for r in options if isinstance(r, dict) and r.get("id") == text[1:]), None)
        key = self.key(reference)
        return None if key is None else self.by_key.get(key)

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
        if absolute and self.bases:
            return Ownership.FOREIGN
        return Ownership.UNPROVABLE
