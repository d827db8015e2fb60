"""Prefetch: the values in a request, the templates of a service, and fetching of missing values.

PrefetchTemplate("Observation?patient={{context.patientId}}&_count=50").fill({"patientId": "1"})
complete(templates, request.prefetch, context, fetch)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

from cds_hooks.errors import (
    FetchError,
    MalformedRequestError,
    MissingPrefetchError,
    ServiceDefinitionError,
    TooLargeError,
)
from cds_hooks.prefetch_tokens import Surroundings, Token

MAX_ENTRIES = 20_000
PARALLEL_FETCHES = 4
_TOKEN = re.compile(r"\{\{(.*?)\}\}")
_ID = r"[A-Za-z0-9\-.]{1,64}"
_INSTANCE = re.compile(rf"[A-Z][A-Za-z]+/(?:\{{\{{.*\}}\}}|{_ID})\Z")
_FILLED = re.compile(rf"[A-Z][A-Za-z]+/(?!\.{{1,2}}\Z){_ID}\Z")
_TYPE = re.compile(r"[A-Z][A-Za-z]+\Z")
_USER = "{{context.userId}}"
"""The one template without a resource type: a read of the current user."""


class UnreadBundle(Protocol):
    """A Bundle with resources that are not decoded yet: an object with these members of the Bundle."""

    resourceType: Any
    entry: Any


Reader = Callable[[bytes, int], Mapping[str, Any]]
"""(bytes of the prefetch object, levels of nesting it may have) -> its members. Raises MalformedRequestError.

A reader may return an UnreadBundle for each Bundle.
"""
Fetch = Callable[[str], Any]
"""A filled query such as `Patient/1` -> the FHIR resource. Raises FetchError."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prefetch(Mapping[str, Any]):
    """The prefetch of a request as a mapping of key to FHIR resource; Prefetch({"patient": {...}}).

    An unparsed one has only its bytes, which `HookRequest.read_prefetch` parses.
    """

    members: Mapping[str, Any] | None = field(default_factory=dict)
    raw: bytes = b""
    """The bytes as they came, while unparsed."""
    sha256: str = ""
    """Hex digest of the bytes as they came; "" if the request was parsed as a whole."""

    @classmethod
    def unparsed(cls, raw: bytes) -> Prefetch:
        return cls(None, raw, hashlib.sha256(raw).hexdigest())

    @property
    def parsed(self) -> bool:
        return self.members is not None

    def __getitem__(self, key: str) -> Any:
        return self._parsed()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())

    def __eq__(self, other: object) -> bool:
        return Mapping.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Without content: it is patient data."""
        return f"Prefetch({sorted(self.members)})" if self.members is not None else f"Prefetch(<{len(self.raw)} bytes>)"

    def _parsed(self) -> Mapping[str, Any]:
        if self.members is None:
            raise TypeError("this prefetch is unparsed: HookRequest.read_prefetch() parses it")
        return self.members


def checked_members(found: Any) -> Mapping[str, Any]:
    """The member `prefetch` of a request. Raises MalformedRequestError, TooLargeError."""
    if found is not None and not isinstance(found, dict):
        raise MalformedRequestError("structure", "prefetch: expected an object")
    check_entries(found or {})
    return found or {}


def check_entries(members: Mapping[str, Any]) -> None:
    """Raises TooLargeError where the Bundles of a prefetch have more than 20,000 entries together."""
    entries = 0
    for value in members.values():
        listed = _member(value, "entry")
        entries += len(listed) if isinstance(listed, list) else 0
    if entries > MAX_ENTRIES:
        raise TooLargeError(f"more than {MAX_ENTRIES} entries in prefetch")


@dataclass(frozen=True, slots=True)
class PrefetchTemplate:
    """A validated template: an instance read or a type search with known tokens.

    >>> PrefetchTemplate("Patient/{{context.patientId}}").resource_type
    'Patient'
    >>> PrefetchTemplate("Observation?patient={{context.patientId}}&patient=2")
    Traceback (most recent call last):
    cds_hooks.errors.ServiceDefinitionError: Observation?...: the parameter patient is repeated
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text:
            raise ServiceDefinitionError("a prefetch template is a non-empty string")
        path, question, query = self.text.partition("?")
        if not (_TYPE.match(path) if question else _INSTANCE.match(path) or self.text == _USER):
            raise ServiceDefinitionError(f"{self.text}: expected Type/id or Type?search")
        try:
            tokens_of(self.text)
        except ServiceDefinitionError as error:
            raise ServiceDefinitionError(f"{self.text}: {error}") from None
        if any(brackets in _TOKEN.sub("", self.text) for brackets in ("{{", "}}")):
            raise ServiceDefinitionError(f"{self.text}: a token is not closed")
        names = [pair.partition("=")[0] for pair in query.split("&")] if question else []
        repeated = sorted({name for name in names if names.count(name) > 1})
        if question and not all(names):
            raise ServiceDefinitionError(f"{path}?...: a search parameter has no name")
        if repeated:
            # Some clients merge two `date=` into one condition: results would silently be incomplete.
            raise ServiceDefinitionError(f"{path}?...: the parameter {repeated[0]} is repeated")

    @property
    def resource_type(self) -> str:
        return resource_type(self.text)

    @property
    def context_fields(self) -> frozenset[str]:
        """The members of `context` that the template needs."""
        return frozenset(name for token in tokens_of(self.text) for name in token.context_fields)

    @property
    def keys(self) -> frozenset[str]:
        """The other prefetch keys that the template needs."""
        return _keys(self.text)


@lru_cache(maxsize=1024)
def tokens_of(template: str) -> tuple[Token, ...]:
    """Raises ServiceDefinitionError for a token that the specification does not have."""
    return tuple(map(Token, _TOKEN.findall(template)))


def _keys(template: str) -> frozenset[str]:
    try:
        return frozenset(key for token in tokens_of(template) for key in token.keys)
    except ServiceDefinitionError:
        return frozenset()


def resource_type(template: str) -> str:
    """The resource type of a template; "" for `{{context.userId}}`, which reads a user of any type.

    >>> resource_type("Observation?patient={{context.patientId}}")
    'Observation'
    """
    return "" if template == _USER else template.split("?")[0].split("/")[0]


def fill(template: str, context: Mapping[str, Any], around: Surroundings | None = None) -> str | None:
    """A template with its tokens replaced; None where one has no value or is unknown, or the result is no FHIR read.

    `around` has what simpler FHIRPath may need besides: other prefetch values, a reader, the day.

    >>> fill("Patient/{{context.patientId}}", {"patientId": "p1"})
    'Patient/p1'
    >>> fill("Practitioner/{{userPractitionerId}}", {"userId": "Practitioner/7"})
    'Practitioner/7'
    >>> fill("Practitioner/{{userPractitionerId}}", {"userId": "Patient/7"}) is None
    True
    """
    around = around or Surroundings(context)
    try:
        values = [token.value(around) for token in tokens_of(template)]
    except ServiceDefinitionError:
        return None
    if not all(values):
        return None
    left = iter(values)
    filled = _TOKEN.sub(lambda _: str(next(left)), template)
    return filled if "?" in filled or _FILLED.match(filled) else None


def arrived(value: Any, kind: str) -> bool:
    """Whether a prefetch value answers a template for resources of this kind: a Bundle, or one such resource.

    null, an empty object, an OperationOutcome and a resource of another kind do not: they count as not fetched. A kind
    of "" is answered by any resource.

    >>> arrived({"resourceType": "Bundle"}, "Observation"), arrived({"resourceType": "OperationOutcome"}, "Patient")
    (True, False)
    """
    found = _member(value, "resourceType")
    return found in ("Bundle", kind) or (not kind and isinstance(found, str) and found != "OperationOutcome")


def _member(value: Any, name: str) -> Any:
    """A member of a parsed resource or of an UnreadBundle."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def fetch_all(queries: Mapping[str, str], fetch: Fetch) -> tuple[dict[str, Any], dict[str, FetchError]]:
    """(fetched resources, errors), each by key; several are fetched at a time."""
    found: dict[str, Any] = {}
    failed: dict[str, FetchError] = {}
    if not queries:
        return found, failed
    with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
        waiting = {key: pool.submit(fetch, query) for key, query in queries.items()}
        for key, future in waiting.items():
            try:
                found[key] = future.result()
            except FetchError as error:
                failed[key] = error
    return found, failed


def fetch_templates(
    templates: Mapping[str, str], around: Surroundings, fetch: Fetch
) -> tuple[dict[str, Any], dict[str, FetchError]]:
    """(fetched resources, errors), each by key. A template that needs another one's resources is fetched after it.

    Templates that cannot be filled are left out. Raises ServiceDefinitionError for templates that need each other.
    """
    found: dict[str, Any] = {}
    failed: dict[str, FetchError] = {}
    waiting = dict(templates)
    while waiting:
        ready = {key: text for key, text in waiting.items() if not _keys(text) & waiting.keys()}
        if not ready:
            raise ServiceDefinitionError(f"prefetch: {', '.join(waiting)} depend on each other")
        at_hand = replace(around, prefetch={**around.prefetch, **found}, read=fetch)
        queries = {key: fill(text, around.context, at_hand) for key, text in ready.items()}
        came, errors = fetch_all({key: query for key, query in queries.items() if query is not None}, fetch)
        found, failed = found | came, failed | errors
        waiting = {key: text for key, text in waiting.items() if key not in ready}
    return found, failed


def complete(
    templates: Mapping[str, str],
    prefetch: Mapping[str, Any],
    context: Mapping[str, Any],
    fetch: Fetch | None = None,
    required: Iterable[str] = (),
    server: str = "",
) -> dict[str, Any]:
    """The prefetch with every template's key: the value as it came, the fetched one, or None.

    `server` is the base URL of the FHIR server that `fetch` reads.

    Raises MissingPrefetchError 412 naming the `required` templates that stay missing.

    >>> complete({"patient": "Patient/{{context.patientId}}"}, {}, {"patientId": "1"}, required=["patient"])
    Traceback (most recent call last):
    cds_hooks.errors.MissingPrefetchError: prefetch is missing and could not be fetched: \
patient = Patient/{{context.patientId}}
    """
    whole = {
        key: value if arrived(value := prefetch.get(key), resource_type(template)) else None
        for key, template in templates.items()
    }
    why = ""
    if fetch is not None:
        missing = {key: templates[key] for key, value in whole.items() if value is None}
        around = Surroundings(context, {key: value for key, value in whole.items() if value is not None}, server=server)
        found, failed = fetch_templates(missing, around, fetch)
        whole |= {key: value for key, value in found.items() if arrived(value, resource_type(templates[key]))}
        why = "".join(f" (fetching {key} failed: {error.reason})" for key, error in failed.items())
    absent = {key: templates[key] for key in required if whole[key] is None}
    if absent:
        raise MissingPrefetchError(absent, why)
    return whole
