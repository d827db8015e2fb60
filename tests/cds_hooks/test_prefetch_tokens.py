"""Prefetch tokens by table: context fields, user ids, and the simpler FHIRPath of CDS Hooks 3.0."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from cds_hooks import (
    Action,
    Card,
    CdsHooks,
    FetchError,
    HookRequest,
    PrefetchTemplate,
    ServiceDefinition,
    ServiceDefinitionError,
    Suggestion,
    TooLargeError,
    fill,
)
from cds_hooks.prefetch_tokens import MAX_VALUES, Surroundings
from tests.cds_hooks.conftest import SOURCE, URL, app_of
from tests.contract.rules import assert_outcome

SERVER = "https://ehr.example.org/fhir"
ORDERS = [
    {
        "resourceType": "MedicationRequest",
        "id": "m1",
        "medicationReference": {"reference": "Medication/a"},
        "requester": {"reference": "PractitionerRole/r"},
    },
    {"resourceType": "MedicationRequest", "id": "m2", "medicationReference": {"reference": f"{SERVER}/Medication/b"}},
    {"resourceType": "MedicationRequest", "id": "m3", "medicationReference": {"reference": "Medication/a"}},
    {"resourceType": "MedicationRequest", "id": "m4", "medicationCodeableConcept": {"text": "aspirin"}},
    {
        "resourceType": "ServiceRequest",
        "id": "s1",
        "performerType": {"text": "nurse"},
        "requester": {"reference": "Practitioner/p/_history/3"},
        "reasonReference": [{"reference": "urn:uuid:c"}, {"reference": "https://elsewhere.example/Condition/9"}],
        "code": {"coding": [{"code": "a&patient=2"}, {"code": "b,c"}]},
        "doNotPerform": False,
    },
    {"resourceType": "Condition", "id": "c1", "asserter": {"reference": "Practitioner/q"}},
]
CONTEXT: dict[str, Any] = {
    "userId": "PractitionerRole/7",
    "patientId": "1",
    "orderId": "../Patient/2",
    "search": "1&patient=2",
    "count": 3,
    "draftOrders": {
        "resourceType": "Bundle",
        "entry": [
            *({"resource": order} for order in ORDERS[:-1]),
            {"fullUrl": "urn:uuid:c", "resource": ORDERS[-1]},
            {"request": {}},
        ],
    },
}
PREFETCH = {"enc-1": {"resourceType": "Encounter", "id": "e", "participant": [{"individual": {"reference": "P"}}]}}
_ORDER = "context.draftOrders.entry.resource"

FILLED: list[tuple[str, str | None]] = [
    ("Patient/{{context.patientId}}", "Patient/1"),
    ("Patient/{{%context.patientId}}", "Patient/1"),
    ("{{context.userId}}", "PractitionerRole/7"),
    ("PractitionerRole?_id={{userPractitionerRoleId}}", "PractitionerRole?_id=7"),
    ("Practitioner/{{userPractitionerId}}", None),
    ("Practitioner/{{userPractitionerId|userPractitionerRoleId}}", "Practitioner/7"),
    ("Encounter/{{context.encounterId}}", None),
    ("ServiceRequest/{{context.orderId}}", None),
    ("Observation?code={{context.search}}", "Observation?code=1%26patient%3D2"),
    ("Observation?value={{context.count}}", "Observation?value=3"),
    ("Observation?date=gt{{today() - 90 days}}", "Observation?date=gt2024-06-15"),
    ("Observation?date=gt{{today()-90 days}}", "Observation?date=gt2024-06-15"),
    ("Appointment?date=lt{{today() + 365 days}}", "Appointment?date=lt2025-09-13"),
    ("Appointment?date={{ today() }}", "Appointment?date=2024-09-13"),
    (f"Medication?_id={{{{{_ORDER}.ofType(MedicationRequest).medication.resolve().id}}}}", "Medication?_id=a,b"),
    (f"Practitioner?_id={{{{{_ORDER}.requester.resolve().ofType(Practitioner).id}}}}", "Practitioner?_id=p"),
    (f"MedicationRequest?_id={{{{{_ORDER}.ofType(MedicationRequest).id}}}}", "MedicationRequest?_id=m1,m2,m3,m4"),
    (f"Condition?_id={{{{{_ORDER}.reasonReference.resolve().ofType(Condition).id}}}}", "Condition?_id=c1"),
    (f"Practitioner?_id={{{{{_ORDER}.reasonReference.resolve().asserter.resolve().id}}}}", "Practitioner?_id=q"),
    (f"ServiceRequest?code={{{{{_ORDER}.code.coding.code}}}}", "ServiceRequest?code=a%26patient%3D2,b%5C%2Cc"),
    (f"ServiceRequest?not={{{{{_ORDER}.doNotPerform}}}}", "ServiceRequest?not=false"),
    (f"Practitioner?_id={{{{{_ORDER}.performer.resolve().id}}}}", None),
    (f"DeviceRequest?_id={{{{{_ORDER}.ofType(DeviceRequest).id}}}}", None),
    (f"MedicationRequest?_id={{{{{_ORDER}}}}}", None),
    ("Encounter?_id={{%enc-1.id}}", "Encounter?_id=e"),
    ("Encounter?_id={{%`enc-1`.id}}", "Encounter?_id=e"),
    ("Practitioner?_id={{%enc-1.participant.individual.resolve().id}}", None),
    ("Practitioner?_id={{%none.id}}", None),
    ("Patient?x={{context.patientId.length()}}", None),
]


@pytest.mark.parametrize(("template", "filled"), FILLED, ids=[row[0] for row in FILLED])
def test_a_template_is_filled(template: str, filled: str | None) -> None:
    around = Surroundings(CONTEXT, PREFETCH, server=SERVER, today=date(2024, 9, 13))
    assert fill(template, CONTEXT, around) == filled


@pytest.mark.parametrize(
    "token",
    [
        "context", "%context", "patientId", "context.", "context.patientId.length()", "context.x.ofType()",
        "context.x.resolve(Patient)", "context.x.where(a=1)", "today() - 90", "today() - 3 months", "now()", "1 + 1",
        "context.patientId |", "%", "context.patientId + 1 days", "",
    ],
)  # fmt: skip
def test_other_tokens_are_refused_at_registration(token: str) -> None:
    with pytest.raises(ServiceDefinitionError, match="unknown token"):
        PrefetchTemplate(f"Patient?_id={{{{{token}}}}}")


def test_a_token_with_very_many_values_is_refused() -> None:
    entries = [{"resource": {"resourceType": "Task", "id": str(number)}} for number in range(MAX_VALUES + 1)]
    context = {"draftOrders": {"resourceType": "Bundle", "entry": entries}}
    with pytest.raises(TooLargeError):
        fill("Task?_id={{context.draftOrders.entry.resource.id}}", context)


def test_a_client_fills_templates_in_the_order_of_their_needs() -> None:
    """A reference is read only where more than its type and id is asked for."""
    asked: list[str] = []

    def read(query: str) -> Any:
        asked.append(query)
        if query == "Encounter/e":
            return {"resourceType": "Encounter", "participant": [{"individual": {"reference": "PractitionerRole/r"}}]}
        if query == "PractitionerRole/r":
            return {"resourceType": "PractitionerRole", "id": "r", "practitioner": {"reference": "Practitioner/p"}}
        if query.startswith("Coverage"):
            raise FetchError("status", status=500)
        return {"resourceType": "Bundle", "type": "searchset"}

    role = "%encounter.participant.individual.resolve()"
    templates = {
        "encounter": "Encounter/{{context.encounterId}}",
        "roles": f"PractitionerRole?_id={{{{{role}.id}}}}",
        "people": f"Practitioner?_id={{{{{role}.practitioner.resolve().id}}}}",
        "coverage": "Coverage?patient={{context.patientId}}",
        "orders": "ServiceRequest?_id={{context.draftOrders.entry.resource.id}}",
        "odd": "Patient?x={{context.patientId.length()}}",
    }
    service = ServiceDefinition("a", "encounter-start", "A.", prefetch=templates)
    context = {"userId": "Practitioner/7", "patientId": "1", "encounterId": "e"}
    filled = service.fill_prefetch(context, read)
    assert list(filled) == ["encounter", "roles", "people", "coverage"]
    assert filled["coverage"] is None
    assert sorted(asked) == [
        "Coverage?patient=1", "Encounter/e", "Practitioner?_id=p", "PractitionerRole/r", "PractitionerRole?_id=r",
    ]  # fmt: skip
    circle = ServiceDefinition("a", "b", "A.", prefetch={"x": "Patient/{{%y.id}}", "y": "Patient/{{%x.id}}"})
    with pytest.raises(ServiceDefinitionError, match="x, y"):
        circle.fill_prefetch(context, read)


def test_a_service_completes_what_its_client_could_not_fill() -> None:
    templates = {"meds": "Medication?_id={{context.draftOrders.entry.resource.medication.resolve().id}}"}
    hooks = CdsHooks(fetch=lambda request, query: {"resourceType": "Bundle", "id": query})

    @hooks.service("echo", hook="order-sign", description="A.", prefetch=templates)
    def echo(request: HookRequest) -> list[Card]:
        return [Card(request.prefetch["meds"]["id"], SOURCE)]

    context = {"userId": "Practitioner/7", "patientId": "1", "draftOrders": CONTEXT["draftOrders"]}
    body = {"hook": "order-sign", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": context}
    client = app_of(hooks).test_client()
    assert "meds" in assert_outcome(client.post(URL, json=body), 412)
    answer = client.post(URL, json=body | {"fhirServer": SERVER})
    assert answer.get_json()["cards"][0]["summary"] == "Medication?_id=a,b"


@pytest.mark.parametrize(("kind", "status"), [("Practitioner", 200), ("Patient", 200), ("OperationOutcome", 412)])
def test_a_user_may_be_of_any_type(kind: str, status: int) -> None:
    hooks = CdsHooks()
    hooks.service("echo", hook="patient-view", description="A.", prefetch={"user": "{{context.userId}}"})(lambda _: [])
    context = {"userId": "Practitioner/7", "patientId": "1"}
    body = hooks.services["echo"].request_body(context, {"user": {"resourceType": kind}})
    assert app_of(hooks).test_client().post(URL, json=body).status_code == status


@pytest.mark.parametrize(("known", "status"), [(True, 200), (False, 500)])
def test_a_choice_of_actions_is_offered_to_clients_that_support_it_only(known: bool, status: int) -> None:
    actions = tuple(Action.delete(f"Cancel {name}", f"ServiceRequest/{name}") for name in "ab")
    suggestion = Suggestion("Cancel orders", actions, action_selection_behavior="any")
    card = Card("a", SOURCE, suggestions=(suggestion,), selection_behavior="any")
    assert Card.from_json(card.to_json()) == card
    hooks = CdsHooks(action_selection=lambda caller: known)
    hooks.service("echo", hook="patient-view", description="A.")(lambda request: [card])
    context = {"userId": "Practitioner/7", "patientId": "1"}
    body = {"hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": context}
    answer = app_of(hooks).test_client().post(URL, json=body)
    assert answer.status_code == status
    if known:
        assert answer.get_json()["cards"][0]["suggestions"][0]["actionSelectionBehavior"] == "any"
