"""Cards that break the specification cannot be built; cards are serialised without empty members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cds_hooks import Action, Card, CardCoding, CardError, HookResponse, Link, Source, Suggestion
from tests.contract.rules import assert_valid_response

SOURCE = Source("Example hospital", "https://example.org", topic=CardCoding("sodium", "https://example.org/topics"))
TASK = {"resourceType": "Task", "status": "draft", "intent": "proposal"}
TWO = (Suggestion("a", is_recommended=True), Suggestion("b", is_recommended=True))

REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    ("no summary", lambda: Card("", SOURCE), "summary"),
    ("blank summary", lambda: Card("  ", SOURCE), "summary"),
    ("140 characters", lambda: Card("x" * 140, SOURCE), "fewer than 140"),
    ("indicator", lambda: Card("a", SOURCE, "alarming"), "indicator"),  # type: ignore[arg-type]
    ("no source", lambda: Card("a", None), "source"),  # type: ignore[arg-type]
    ("no source label", lambda: Source(""), "source.label"),
    ("relative source url", lambda: Source("a", "/about"), "source.url"),
    ("empty source url", lambda: Source("a", ""), "source.url"),
    ("icon no url", lambda: Source("a", icon="icon.png"), "source.icon"),
    ("relative link", lambda: Link("a", "/a"), "link.url"),
    ("link by script", lambda: Link("a", "javascript:alert(1)"), "link.url"),
    ("link without host", lambda: Link("a", "https:///a"), "link.url"),
    ("link of another type", lambda: Link("a", "https://example.org", "app"), "link.type"),  # type: ignore[arg-type]
    ("link without label", lambda: Link("", "https://example.org"), "link.label"),
    ("context on absolute", lambda: Link("a", "https://example.org", app_context="x"), "appContext"),
    ("suggestions without behavior", lambda: Card("a", SOURCE, suggestions=TWO), "selectionBehavior"),
    ("behavior without suggestions", lambda: Card("a", SOURCE, selection_behavior="any"), "selectionBehavior"),
    (
        "unknown behavior",
        lambda: Card("a", SOURCE, suggestions=TWO, selection_behavior="all"),  # type: ignore[arg-type]
        "selectionBehavior",
    ),
    ("two recommended", lambda: Card("a", SOURCE, suggestions=TWO, selection_behavior="at-most-one"), "recommended"),
    ("suggestion without label", lambda: Suggestion(""), "suggestion.label"),
    ("action of another type", lambda: Action("read", "a"), "action.type"),  # type: ignore[arg-type]
    ("action without description", lambda: Action.create("", TASK), "action.description"),
    ("create without resource", lambda: Action("create", "a"), "action.resource"),
    ("update of no resource", lambda: Action.update("a", {"id": "1"}), "resourceType"),
    ("create with resourceId", lambda: Action("create", "a", TASK, "Task/1"), "resourceId"),
    ("delete without resourceId", lambda: Action("delete", "a"), "resourceId"),
    ("delete with resource", lambda: Action("delete", "a", TASK, "Task/1"), "action.resource"),
    ("reason without display", lambda: Card("a", SOURCE, override_reasons=(CardCoding("x", "y"),)), "overrideReasons"),
    ("coding without code", lambda: CardCoding(""), "code"),
    ("dict for a link", lambda: Card("a", SOURCE, links=({"label": "x"},)), "links"),  # type: ignore[arg-type]
    ("dict for a card", lambda: HookResponse(({"summary": "x"},)), "cards"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("name", "build", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_invalid_cards_cannot_be_built(name: str, build: Callable[[], Any], said: str) -> None:
    with pytest.raises(CardError, match=said):
        build()


def whole_card() -> Card:
    suggestion = Suggestion("Order a sodium", (Action.create("Order", TASK), Action.delete("Cancel", "Task/1")))
    return Card(
        "Sodium is low",
        SOURCE,
        "warning",
        "**Low** since yesterday",
        (suggestion, Suggestion("Nothing", is_recommended=True)),
        "at-most-one",
        (CardCoding("patient-refuses", "https://example.org/reasons", "Patient refuses"),),
        (Link("Guideline", "https://example.org/a"), Link("App", "https://example.org/launch", "smart", "x")),
    )


def test_a_full_card_survives_a_round_trip() -> None:
    card = whole_card()
    assert list(card.to_json()) == [
        "uuid", "summary", "detail", "indicator", "source", "overrideReasons", "links", "suggestions",
        "selectionBehavior",
    ]  # fmt: skip
    assert Card.from_json(card.to_json()) == card


def test_a_minimal_card_has_no_empty_members() -> None:
    card = Card("a", Source("b"), suggestions=[], detail="")  # type: ignore[arg-type]
    assert card.to_json() == {"uuid": card.uuid, "summary": "a", "indicator": "info", "source": {"label": "b"}}
    assert Card("a", Source("b")).uuid != card.uuid
    assert_valid_response(HookResponse((card,)).to_json())


def test_system_actions_survive_a_round_trip() -> None:
    answer = HookResponse((), (Action.update("Mark as read", TASK),))
    assert answer.to_json() == {"cards": [], "systemActions": [answer.system_actions[0].to_json()]}
    assert HookResponse.from_json(answer.to_json()) == answer


@pytest.mark.parametrize("raw", [None, [], {}, {"cards": {}}, {"cards": [{}]}, {"cards": [{"summary": "a"}]}])
def test_an_answer_that_breaks_the_specification_is_refused_by_the_client(raw: Any) -> None:
    with pytest.raises(CardError):
        HookResponse.from_json(raw)
