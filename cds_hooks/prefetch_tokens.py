"""The tokens of prefetch templates: context fields, user ids, and simpler FHIRPath (CDS Hooks 3.0, "Prefetch tokens").

    context.patientId   userPractitionerId   today() - 90 days
    context.draftOrders.entry.resource.ofType(MedicationRequest).medication.resolve().id
    %encounter.participant.individual.resolve().ofType(Practitioner).id | context.userId

The subset is the specification's: paths from `context` or from another prefetch key, `ofType()`, `resolve()`, `today()`
with days, and alternatives. Several values are joined by commas, which means "or" in a search.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import quote

from cds_hooks.errors import FetchError, ServiceDefinitionError, TooLargeError

MAX_VALUES = 500
"""Values of one token."""
MAX_READS = 50
"""Resources that are read to resolve the references of one template."""
USER_TOKENS: Mapping[str, str] = {
    "userPractitionerId": "Practitioner",
    "userPractitionerRoleId": "PractitionerRole",
    "userPatientId": "Patient",
    "userRelatedPersonId": "RelatedPerson",
}
"""Token -> the resource type that `context.userId` must name (CDS Hooks, "Prefetch tokens identifying the user")."""
_TODAY = re.compile(r"today\(\)(?:\s*([+-])\s*(\d{1,5})\s+days?)?\Z")
_PATH = re.compile(
    r"(?:%?(?P<context>context)|%(?P<key>[A-Za-z_][\w-]*)|%`(?P<quoted>[^`]+)`)"
    r"(?P<steps>(?:\.[A-Za-z]\w*(?:\(\w*\))?)*)\Z"
)
_STEP = re.compile(r"\.(?P<name>[A-Za-z]\w*)(?P<call>\((?P<argument>\w*)\))?")
_REFERENCE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]+)?\Z")
# A choice such as medication[x] is named without its type in FHIRPath.
_CHOICES = (
    "Reference", "CodeableConcept", "Coding", "Quantity", "String", "Boolean", "Integer", "Decimal", "Date", "DateTime",
    "Time", "Instant", "Period", "Range", "Ratio", "Identifier", "Uri", "Canonical", "Timing", "Age",
)  # fmt: skip
Reader = Callable[[str], Any]


@dataclass
class Surroundings:
    """What tokens are evaluated with. `read` fetches `Type/id`; without it only what is at hand is resolved.

    `server` is the base URL whose absolute references count as its own.
    """

    context: Mapping[str, Any]
    prefetch: Mapping[str, Any] = field(default_factory=dict)
    read: Reader | None = None
    server: str = ""
    today: date = field(default_factory=lambda: datetime.now(UTC).date())
    reads: int = 0

    @cached_property
    def at_hand(self) -> Mapping[str, Mapping[str, Any]]:
        """The resources in the context and the prefetch, by fullUrl and by `Type/id`."""
        found: dict[str, Mapping[str, Any]] = {}
        for value in (*self.context.values(), *self.prefetch.values()):
            for entry in _entries(value):
                resource = entry.get("resource") if isinstance(entry, Mapping) else None
                if isinstance(resource, Mapping):
                    found[str(entry.get("fullUrl"))] = resource
                    found[f"{resource.get('resourceType')}/{resource.get('id')}"] = resource
        return found


@dataclass(frozen=True, slots=True)
class _Resource:
    """A resource that a reference names; it is read only if more than its type and id is asked for."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Token:
    """Token("context.patientId"), the text between the braces. Raises ServiceDefinitionError for any other form."""

    text: str

    def __post_init__(self) -> None:
        for path in self._paths():
            if path in USER_TOKENS or _TODAY.match(path):
                continue
            found = _PATH.match(path)
            if found is None or (found["context"] and not found["steps"]) or not _known_functions(found["steps"]):
                raise ServiceDefinitionError(f"unknown token {{{{{self.text}}}}}")

    @property
    def context_fields(self) -> frozenset[str]:
        """The members of `context` that it needs."""
        paths = [path for path in self._paths() if not _TODAY.match(path)]
        fields = {"userId" for path in paths if path in USER_TOKENS}
        found = [match for path in paths if (match := _PATH.match(path)) and match["context"]]
        return frozenset(fields | {match["steps"].split(".")[1] for match in found})

    @property
    def keys(self) -> frozenset[str]:
        """The prefetch keys that it depends on."""
        found = filter(None, map(_PATH.match, self._paths()))
        return frozenset(key for match in found if (key := match["key"] or match["quoted"]))

    def value(self, around: Surroundings) -> str | None:
        """The value for a URL; None without one, or if it is no simple value. Raises TooLargeError."""
        values = dict.fromkeys(
            text for path in self._paths() for value in _evaluate(path, around) if (text := _simple(value)) is not None
        )
        if len(values) > MAX_VALUES:
            raise TooLargeError(f"more than {MAX_VALUES} values of the prefetch token {self.text}")
        return ",".join(map(_escaped, values)) or None

    def _paths(self) -> list[str]:
        return [path.strip() for path in self.text.split("|")]


def _known_functions(steps: str) -> bool:
    calls = [match for match in _STEP.finditer(steps) if match["call"]]
    return all(
        match["argument"] == "" if match["name"] == "resolve" else match["name"] == "ofType" and match["argument"]
        for match in calls
    )


def _evaluate(path: str, around: Surroundings) -> list[Any]:
    if path in USER_TOKENS:
        kind, _, identifier = str(around.context.get("userId") or "").rpartition("/")
        return [identifier] if kind == USER_TOKENS[path] else []
    today = _TODAY.match(path)
    if today is not None:
        days = int(today[2] or 0) * (-1 if today[1] == "-" else 1)
        return [(around.today + timedelta(days=days)).isoformat()]
    found = _PATH.match(path)
    assert found is not None, "a Token is checked when it is made"
    values: list[Any] = [around.context if found["context"] else around.prefetch.get(found["key"] or found["quoted"])]
    for step in _STEP.finditer(found["steps"]):
        if step["name"] == "resolve" and step["call"]:
            values = [each for value in values for each in _resolved(value, around)]
        elif step["call"]:
            values = [value for value in values if _kind(value) == step["argument"]]
        else:
            values = [each for value in values for each in _members(value, step["name"], around)]
    return values


def _members(value: Any, name: str, around: Surroundings) -> Iterator[Any]:
    if isinstance(value, _Resource):
        if name == "id":
            yield value.id
            return
        value = _loaded(value, around)
    if not isinstance(value, Mapping):
        return
    names = [name] if name in value else [f"{name}{kind}" for kind in _CHOICES if f"{name}{kind}" in value]
    for each in names:
        found = value[each]
        yield from found if isinstance(found, list) else [found]


def _resolved(value: Any, around: Surroundings) -> Iterator[Any]:
    """The resource of a reference, as FHIRPath's resolve(): nothing where it names none that can be found."""
    text = value.get("reference") if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        return
    listed = around.at_hand.get(text)
    if listed is not None:
        yield listed
        return
    own = f"{around.server.rstrip('/')}/"
    match = _REFERENCE.match(text.removeprefix(own) if around.server else text)
    if match is not None:
        yield _Resource(match[1], match[2])


def _loaded(resource: _Resource, around: Surroundings) -> Any:
    name = f"{resource.kind}/{resource.id}"
    if name in around.at_hand:
        return around.at_hand[name]
    if around.read is None or around.reads >= MAX_READS:
        return None
    around.reads += 1
    try:
        return around.read(name)
    except FetchError:
        return None


def _entries(value: Any) -> Iterable[Any]:
    if not isinstance(value, Mapping):
        return ()
    if value.get("resourceType") != "Bundle":
        return ({"resource": value},)
    entries = value.get("entry")
    return entries if isinstance(entries, list) else ()


def _kind(value: Any) -> Any:
    if isinstance(value, _Resource):
        return value.kind
    return value.get("resourceType") if isinstance(value, Mapping) else None


def _simple(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) and str(value) else None


def _escaped(value: str) -> str:
    r"""A value as part of a search: no other parameter can be smuggled in (FHIR, "Escaping Search Parameters").

    >>> _escaped("Patient/1"), _escaped("a&b=c"), _escaped("x,y")
    ('Patient/1', 'a%26b%3Dc', 'x%5C%2Cy')
    """
    return quote(value.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$"), safe="/:.~-_")
