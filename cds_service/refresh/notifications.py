"""Subscription notifications: R4 rest-hooks (a resource or nothing), R4B, R4 Backport and R5 notification Bundles.

Only ids are taken from a notification: the data are read from the server afterwards, with our own login.

https://hl7.org/fhir/R4/subscription.html · https://hl7.org/fhir/R5/subscriptionstatus.html
https://hl7.org/fhir/uv/subscriptions-backport
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cds_hooks import FHIR_ID, HookError, MalformedRequestError
from cds_service.refresh.resource_ids import key_of, local_key, patient_of

MOST_RESOURCES = 1_000
"""In one notification; a server that bundles more is asked what changed instead."""
_TYPES = frozenset({"handshake", "heartbeat", "event-notification", "query-status", "query-event"})
_ENTRY_TYPES = ("SubscriptionStatus", "Parameters")
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Notification:
    """What a notification says: its type, the resources it is about, and the events by which a repeat is known.

    `ask`: it says that something changed and not what, so the server must be asked. `faulty`: the server reports that
    the subscription is in error or off.
    """

    type: str
    resources: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    ask: bool = False
    faulty: bool = False


def read_notification(body: Any, base: str, addressed: str = "") -> Notification:
    """Returns the notification of a parsed body (None for an empty one); `addressed` is `Type/id` of the URL, if any.

    Raises MalformedRequestError for a body that is neither a resource nor a notification.
    """
    if body is None:
        own = local_key(addressed, base)
        return Notification("event-notification", (own,) if own else (), ask=own is None)
    if not isinstance(body, Mapping) or not isinstance(body.get("resourceType"), str):
        raise MalformedRequestError("structure", "expected a FHIR resource or a notification Bundle")
    if body["resourceType"] != "Bundle":
        return _resource(body, base)
    entries = [entry for entry in _list(body.get("entry")) if isinstance(entry, Mapping)]
    first = entries[0].get("resource") if entries else None
    if not isinstance(first, Mapping) or first.get("resourceType") not in _ENTRY_TYPES:
        raise MalformedRequestError("structure", "Bundle.entry[0]: expected SubscriptionStatus or Parameters")
    status = _backport(first) if first["resourceType"] == "Parameters" else first
    return _bundle(status, entries[1:], base)


def _resource(resource: Json, base: str) -> Notification:
    """R4 with a payload: the resource itself; the version that it names makes a repeat known."""
    found = patient_of(resource, base) or key_of(resource)
    if found is None:
        raise MalformedRequestError("value", f"{resource['resourceType']}.id: expected an id")
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, Mapping) else None
    event = f"{key_of(resource)} {version}" if isinstance(version, str) and key_of(resource) else ""
    return Notification("event-notification", (found,), (event,) if event else ())


def _bundle(status: Json, entries: list[Json], base: str) -> Notification:
    kind = status.get("type")
    if kind not in _TYPES:
        raise MalformedRequestError("value", f"SubscriptionStatus.type: expected one of {', '.join(sorted(_TYPES))}")
    faulty = status.get("status") in {"error", "off"}
    if kind in {"handshake", "heartbeat", "query-status"}:
        return Notification(kind, faulty=faulty)
    events = [event for event in _list(status.get("notificationEvent")) if isinstance(event, Mapping)]
    held = dict(_held(entries, base))
    resources = dict.fromkeys(held.get(key, key) for key in (*_focused(events, base), *held))
    named = [_event(status, event) for event in events]
    # An empty notification, or one that is too long, only says that something changed.
    ask = not resources or len(resources) > MOST_RESOURCES
    known = tuple(name for name in named if name) if all(named) else ()
    return Notification(kind, () if ask else tuple(resources), known, ask, faulty)


def _focused(events: list[Json], base: str) -> Iterator[str]:
    """The patients that events name, or else the resources they are about, whose patient is looked up later."""
    for event in events:
        references = (event.get("focus"), *_list(event.get("additionalContext")))
        named = (local_key(each.get("reference"), base) for each in references if isinstance(each, Mapping))
        found = [key for key in named if key is not None]
        patients = [key for key in found if key.startswith("Patient/")]
        yield from patients or found[:1]


def _held(entries: list[Json], base: str) -> Iterator[tuple[str, str]]:
    """(resource, its patient or itself) of each entry: the patient of a full resource, ids alone as they are."""
    for entry in entries:
        resource, request = entry.get("resource"), entry.get("request")
        url = request.get("url") if isinstance(request, Mapping) else None
        own = key_of(resource) or local_key(entry.get("fullUrl"), base) or local_key(url, base)
        patient = patient_of(resource, base) if isinstance(resource, Mapping) else None
        if own is not None or patient is not None:
            yield own or str(patient), patient or str(own)


def _event(status: Json, event: Json) -> str:
    """A name of one event of one subscription; "" where the server does not number it."""
    subscription = status.get("subscription")
    own = subscription.get("reference") if isinstance(subscription, Mapping) else None
    number, at = event.get("eventNumber"), event.get("timestamp", "")
    return f"{own} {number} {at}" if isinstance(own, str) and number is not None and at else ""


def _backport(parameters: Json) -> Json:
    """The Parameters of an R4 Backport notification as the elements of SubscriptionStatus.

    >>> _backport({"parameter": [{"name": "type", "valueCode": "heartbeat"}]})["type"]
    'heartbeat'
    """
    values = _parameters(parameters.get("parameter"))
    events = []
    for part in _list(parameters.get("parameter")):
        if isinstance(part, Mapping) and part.get("name") == "notification-event":
            own = _parameters(part.get("part"))
            events.append(
                {
                    "eventNumber": own.get("event-number"),
                    "timestamp": own.get("timestamp", ""),
                    "focus": own.get("focus"),
                    "additionalContext": [
                        each.get("valueReference")
                        for each in _list(part.get("part"))
                        if isinstance(each, Mapping) and each.get("name") == "additional-context"
                    ],
                }
            )
    return {
        "type": values.get("type"),
        "status": values.get("status"),
        "subscription": values.get("subscription"),
        "notificationEvent": events,
    }


def _parameters(listed: Any) -> dict[str, Any]:
    """name -> value[x], the first of each name."""
    found: dict[str, Any] = {}
    for part in _list(listed):
        if isinstance(part, Mapping) and isinstance(part.get("name"), str):
            value = next((value for name, value in part.items() if name.startswith("value")), None)
            found.setdefault(part["name"], value)
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def check_path(kind: str, identifier: str) -> str:
    """`Type/id` of the URL of an R4 notification. Raises HookError 404."""
    if not kind.isalpha() or not FHIR_ID.match(identifier):
        raise HookError(404, "not-found", "expected [receiver]/Type/id")
    return f"{kind}/{identifier}"
