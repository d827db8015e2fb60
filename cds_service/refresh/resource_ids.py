"""The ids in resources and references; nothing else of them is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cds_hooks import FHIR_ID

_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}\Z")


def key_of(resource: Any) -> str | None:
    """`Type/id` of a resource; None where either is missing or malformed.

    >>> key_of({"resourceType": "Observation", "id": "7"}), key_of({"resourceType": "Observation", "id": "../x"})
    ('Observation/7', None)
    """
    if not isinstance(resource, Mapping):
        return None
    return _key(resource.get("resourceType"), resource.get("id"))


def local_key(reference: Any, base: str) -> str | None:
    """`Type/id` of a reference to this server, relative or absolute, a version left out; None for any other.

    >>> base = "https://ehr.example/fhir"
    >>> local_key("Patient/7", base), local_key(f"{base}/Patient/7/_history/2", base), local_key("urn:uuid:7", base)
    ('Patient/7', 'Patient/7', None)
    >>> local_key("https://evil.example/Patient/7", base), local_key("Patient/../7", base), local_key(None, base)
    (None, None, None)
    """
    if not isinstance(reference, str):
        return None
    relative = reference.removeprefix(f"{base.rstrip('/')}/").partition("/_history/")[0]
    kind, _, identifier = relative.partition("/")
    return _key(kind, identifier)


def patient_of(resource: Mapping[str, Any], base: str) -> str | None:
    """`Patient/id` of the patient that a resource is, or is about; None where it names none of this server."""
    if resource.get("resourceType") == "Patient":
        return key_of(resource)
    for name in ("subject", "patient"):
        value = resource.get(name)
        found = local_key(value.get("reference"), base) if isinstance(value, Mapping) else None
        if found is not None and found.startswith("Patient/"):
            return found
    return None


def _key(kind: Any, identifier: Any) -> str | None:
    fits = isinstance(kind, str) and isinstance(identifier, str) and _TYPE.match(kind) and FHIR_ID.match(identifier)
    # Dots alone are a legal id, and in a path another place.
    return f"{kind}/{identifier}" if fits and identifier.strip(".") else None
