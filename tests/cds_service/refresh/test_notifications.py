"""What a notification says, of every form; nothing but ids is taken from it."""

from __future__ import annotations

from typing import Any

import pytest

from cds_hooks import MalformedRequestError
from cds_service.refresh.notifications import Notification, read_notification

BASE = "https://ehr.example/fhir"
OBSERVATION = {"resourceType": "Observation", "id": "7", "subject": {"reference": "Patient/1"}}


def status(kind: str, *events: dict[str, Any], **more: Any) -> dict[str, Any]:
    """SubscriptionStatus of R5 and R4B."""
    return {
        "resourceType": "SubscriptionStatus",
        "type": kind,
        "subscription": {"reference": "Subscription/s"},
        "notificationEvent": list(events),
        **more,
    }


def event(number: int, focus: str | None, *context: str) -> dict[str, Any]:
    found: dict[str, Any] = {"eventNumber": str(number), "timestamp": f"2026-12-01T08:00:0{number}Z"}
    if focus:
        found["focus"] = {"reference": focus}
    if context:
        found["additionalContext"] = [{"reference": one} for one in context]
    return found


def bundle(first: dict[str, Any], *entries: dict[str, Any], kind: str = "subscription-notification") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": [{"resource": first}, *entries]}


def backport(kind: str, *events: tuple[int, str]) -> dict[str, Any]:
    """Parameters of the R4 Backport guide."""
    parameters: list[dict[str, Any]] = [
        {"name": "subscription", "valueReference": {"reference": f"{BASE}/Subscription/s"}},
        {"name": "status", "valueCode": "active"},
        {"name": "type", "valueCode": kind},
    ]
    for number, focus in events:
        part = [
            {"name": "event-number", "valueString": str(number)},
            {"name": "timestamp", "valueInstant": "2026-12-01T08:00:00Z"},
            {"name": "focus", "valueReference": {"reference": focus}},
        ]
        parameters.append({"name": "notification-event", "part": part})
    return {"resourceType": "Parameters", "parameter": parameters}


HAPPENED = "event-notification"
READ: dict[str, tuple[Any, list[str], bool]] = {
    "R4, nothing": (None, [], True),
    "R4, a resource with its patient": (OBSERVATION, ["Patient/1"], False),
    "R4, a resource with an absolute reference": (
        OBSERVATION | {"subject": {"reference": f"{BASE}/Patient/1"}}, ["Patient/1"], False,
    ),
    "R4, an id alone": ({"resourceType": "Observation", "id": "7"}, ["Observation/7"], False),
    "R4, a patient": ({"resourceType": "Patient", "id": "1"}, ["Patient/1"], False),
    "R4, a patient elsewhere": (
        OBSERVATION | {"subject": {"reference": "https://evil.example/fhir/Patient/1"}}, ["Observation/7"], False,
    ),
    "R4, a subject that is a group": (OBSERVATION | {"subject": {"reference": "Group/1"}}, ["Observation/7"], False),
    "R5, empty": (bundle(status(HAPPENED, event(1, None))), [], True),
    "R5, id only": (
        bundle(
            status(HAPPENED, event(1, f"{BASE}/Observation/7")),
            {"fullUrl": f"{BASE}/Observation/7", "request": {"method": "PUT", "url": "Observation/7"}},
        ),
        ["Observation/7"],
        False,
    ),
    "R5, id only with the patient as context": (
        bundle(status(HAPPENED, event(1, "Observation/7", "Encounter/3", "Patient/1"))), ["Patient/1"], False,
    ),
    "R5, full": (
        bundle(status(HAPPENED, event(1, "Observation/7")), {"resource": OBSERVATION}), ["Patient/1"], False,
    ),
    "R5, two events of two patients": (
        bundle(status(HAPPENED, event(1, "Observation/7"), event(2, "Patient/2")), {"resource": OBSERVATION}),
        ["Patient/1", "Patient/2"],
        False,
    ),
    "R4B": (bundle(status(HAPPENED, event(1, "Encounter/3")), kind="history"), ["Encounter/3"], False),
    "R4 Backport": (
        bundle(backport(HAPPENED, (1, "Observation/7"), (2, f"{BASE}/Encounter/3")), kind="history"),
        ["Encounter/3", "Observation/7"],
        False,
    ),
    "a deleted resource": (
        bundle(
            status(HAPPENED, event(1, "Observation/7")), {"request": {"method": "DELETE", "url": "Observation/7"}}
        ),
        ["Observation/7"],
        False,
    ),
    "ids of another server and of no FHIR form": (
        bundle(status(HAPPENED, event(1, "https://evil.example/Patient/1"), event(2, "Patient/../../x"))), [], True,
    ),
    "more than is queued at once": (
        bundle(status(HAPPENED, *(event(1, f"Observation/{n}") for n in range(1001)))), [], True,
    ),
    "a repeated answer to a query": (bundle(status("query-event", event(4, "Patient/1"))), ["Patient/1"], False),
}  # fmt: skip


@pytest.mark.parametrize(("body", "resources", "ask"), READ.values(), ids=READ)
def test_a_notification_names_resources_or_says_to_ask(body: Any, resources: list[str], ask: bool) -> None:
    found = read_notification(body, BASE)
    assert (sorted(found.resources), found.ask) == (resources, ask)


@pytest.mark.parametrize("kind", ["handshake", "heartbeat", "query-status"])
def test_what_is_no_event_names_nothing(kind: str) -> None:
    for first in (status(kind), backport(kind)):
        assert read_notification(bundle(first), BASE) == Notification(kind)


def test_the_address_of_an_update_names_what_was_deleted() -> None:
    assert read_notification(None, BASE, "Observation/7").resources == ("Observation/7",)


def test_a_subscription_in_error_is_noticed() -> None:
    assert read_notification(bundle(status("heartbeat", status="error")), BASE).faulty


def test_events_are_named_so_that_a_repeat_is_known() -> None:
    one = read_notification(bundle(status(HAPPENED, event(1, "Patient/1"))), BASE)
    other = read_notification(bundle(status(HAPPENED, event(2, "Patient/1"))), BASE)
    assert len(one.events) == 1
    assert set(one.events).isdisjoint(other.events)
    unnumbered = {"focus": {"reference": "Patient/1"}}
    assert read_notification(bundle(status(HAPPENED, unnumbered)), BASE).events == ()
    assert read_notification(OBSERVATION, BASE).events == (), "without a version every delivery is new"
    assert read_notification(OBSERVATION | {"meta": {"versionId": "2"}}, BASE).events == ("Observation/7 2",)


@pytest.mark.parametrize(
    "body",
    [
        [], "text", 7, {}, {"resourceType": 7}, {"resourceType": "Bundle"}, {"resourceType": "Bundle", "entry": [{}]},
        {"resourceType": "Bundle", "entry": "x"}, bundle(OBSERVATION), bundle(status("party")), bundle(status("")),
        bundle({"resourceType": "Parameters"}), bundle({"resourceType": "Parameters", "parameter": [{"name": 1}]}),
        {"resourceType": "Observation"}, {"resourceType": "Observation", "id": "../x"},
    ],
)  # fmt: skip
def test_anything_else_is_refused(body: Any) -> None:
    with pytest.raises(MalformedRequestError):
        read_notification(body, BASE)


@pytest.mark.parametrize("broken", [None, 7, [], {}, "x", [None], [{}], [7], [{"reference": 7}]])
def test_malformed_parts_of_a_bundle_are_no_error_of_ours(broken: Any) -> None:
    """What cannot be read makes the next poll come at once; what can be is kept."""
    without = read_notification(bundle(status(HAPPENED) | {"notificationEvent": broken}), BASE)
    assert (without.resources, without.ask) == ((), True)
    unnamed = read_notification(bundle(status(HAPPENED, {"focus": broken, "additionalContext": broken})), BASE)
    assert unnamed.resources == ()
    nothing = {"resource": broken, "fullUrl": broken, "request": broken}
    entry = read_notification(bundle(status(HAPPENED), nothing), BASE)
    assert entry.resources == ()
    kept = read_notification({"resourceType": "Observation", "id": "7", "subject": broken, "meta": broken}, BASE)
    assert (kept.resources, kept.ask) == (("Observation/7",), False)
