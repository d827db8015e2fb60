"""Validated cards (CDS Hooks, "CDS Service Response": card, suggestion, action, link, coding).

    Card("Sodium is low", Source("Example hospital"))
    Card("Sodium is low", Source("Example hospital"), "warning", suggestions=(Suggestion("Order a sodium"),),
         selection_behavior="any")
    Card.from_json(card.to_json()) == card

Every class validates itself when it is made and raises CardError naming the field. `to_json` never contains null, an
empty string, an empty array or an empty object.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from cds_hooks.errors import CardError

Indicator = Literal["info", "warning", "critical"]
SelectionBehavior = Literal["at-most-one", "any"]
ActionSelection = Literal["all", "any", "at-most-one"]
ActionType = Literal["create", "update", "delete"]
LinkType = Literal["absolute", "smart"]
MAX_SUMMARY = 139
"""Characters: the specification says fewer than 140."""


def new_uuid() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class CardCoding:
    """CardCoding("patient-refuses", "http://...", "Patient refuses"): the specification's Coding."""

    code: str
    system: str | None = None
    display: str | None = None

    def __post_init__(self) -> None:
        _require_text(self.code, "code")
        _check_optional_text(self, "system", "display")

    def to_json(self) -> dict[str, Any]:
        return _without_empty({"system": self.system, "code": self.code, "display": self.display})

    @classmethod
    def from_json(cls, raw: Any) -> CardCoding:
        item = _object(raw, "coding")
        return cls(_member(item, "code"), item.get("system"), item.get("display"))


@dataclass(frozen=True, slots=True)
class Source:
    """The source of the guidance. `url` is absolute and about the source; `icon` is the URL of a 100x100 PNG."""

    label: str
    url: str | None = None
    icon: str | None = None
    topic: CardCoding | None = None

    def __post_init__(self) -> None:
        _require_text(self.label, "source.label")
        for name in ("url", "icon"):
            if getattr(self, name) is not None:
                _require_absolute(getattr(self, name), f"source.{name}")

    def to_json(self) -> dict[str, Any]:
        topic = None if self.topic is None else self.topic.to_json()
        return _without_empty({"label": self.label, "url": self.url, "icon": self.icon, "topic": topic})

    @classmethod
    def from_json(cls, raw: Any) -> Source:
        item = _object(raw, "source")
        topic = item.get("topic")
        return cls(
            _member(item, "label"),
            item.get("url"),
            item.get("icon"),
            None if topic is None else CardCoding.from_json(topic),
        )


@dataclass(frozen=True, slots=True)
class Link:
    """Link("Guideline", "https://example.org/a") or Link("App", "https://example.org/launch", "smart", "context")"""

    label: str
    url: str
    type: LinkType = "absolute"
    app_context: str | None = None
    """Given to the SMART app when it is launched; only on smart links."""

    def __post_init__(self) -> None:
        _require_text(self.label, "link.label")
        _require_absolute(self.url, "link.url")
        _require_one_of(self.type, LinkType, "link.type")
        _check_optional_text(self, "app_context")
        if self.app_context is not None and self.type != "smart":
            raise CardError("link.appContext: only a smart link may have one")

    def to_json(self) -> dict[str, Any]:
        return _without_empty({"label": self.label, "url": self.url, "type": self.type, "appContext": self.app_context})

    @classmethod
    def from_json(cls, raw: Any) -> Link:
        item = _object(raw, "link")
        return cls(_member(item, "label"), _member(item, "url"), _member(item, "type"), item.get("appContext"))


@dataclass(frozen=True, slots=True)
class Action:
    """Action.create("Order a sodium", resource), Action.update(...), Action.delete("Cancel it", "ServiceRequest/1")"""

    type: ActionType
    description: str
    resource: Mapping[str, Any] | None = None
    resource_id: str | None = None

    def __post_init__(self) -> None:
        _require_one_of(self.type, ActionType, "action.type")
        _require_text(self.description, "action.description")
        if self.type == "delete":
            if self.resource is not None:
                raise CardError("action.resource: a delete names its resource by resourceId")
            _require_text(self.resource_id, "action.resourceId")
            return
        if self.resource_id is not None:
            raise CardError(f"action.resourceId: only on a delete; {self.type} carries the whole resource")
        kind = self.resource.get("resourceType") if isinstance(self.resource, Mapping) else None
        if not isinstance(kind, str) or not kind:
            raise CardError(f"action.resource: {self.type} requires a FHIR resource with its resourceType")

    @classmethod
    def create(cls, description: str, resource: Mapping[str, Any]) -> Action:
        return cls("create", description, resource)

    @classmethod
    def update(cls, description: str, resource: Mapping[str, Any]) -> Action:
        return cls("update", description, resource)

    @classmethod
    def delete(cls, description: str, resource_id: str) -> Action:
        return cls("delete", description, resource_id=resource_id)

    def to_json(self) -> dict[str, Any]:
        return _without_empty(
            {
                "type": self.type,
                "description": self.description,
                "resource": self.resource,
                "resourceId": self.resource_id,
            }
        )

    @classmethod
    def from_json(cls, raw: Any) -> Action:
        item = _object(raw, "action")
        found = item.get("resourceId")
        if isinstance(found, list):  # an array before version 2.0
            found = found[0] if len(found) == 1 else None
        return cls(_member(item, "type"), _member(item, "description"), item.get("resource"), found)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggestion that a clinician may accept; its actions are done together.

    `action_selection_behavior` (3.0) lets the clinician choose among them, and only a client that is known to support
    it may get one (CDS Hooks, "Capability Documentation"): see `HookServices.action_selection`.
    """

    label: str
    actions: tuple[Action, ...] = ()
    uuid: str = field(default_factory=new_uuid)
    is_recommended: bool = False
    action_selection_behavior: ActionSelection | None = None

    def __post_init__(self) -> None:
        _require_text(self.label, "suggestion.label")
        if self.action_selection_behavior is not None:
            _require_one_of(self.action_selection_behavior, ActionSelection, "suggestion.actionSelectionBehavior")
        _require_text(self.uuid, "suggestion.uuid")
        object.__setattr__(self, "actions", _tuple_of(self.actions, Action, "suggestion.actions"))

    def to_json(self) -> dict[str, Any]:
        return _without_empty(
            {
                "label": self.label,
                "uuid": self.uuid,
                "isRecommended": self.is_recommended or None,
                "actions": [action.to_json() for action in self.actions],
                "actionSelectionBehavior": self.action_selection_behavior,
            }
        )

    @classmethod
    def from_json(cls, raw: Any) -> Suggestion:
        item = _object(raw, "suggestion")
        actions = tuple(Action.from_json(each) for each in _list(item, "actions"))
        return cls(
            label=_member(item, "label"),
            actions=actions,
            uuid=item.get("uuid") or new_uuid(),
            is_recommended=item.get("isRecommended") is True,
            action_selection_behavior=item.get("actionSelectionBehavior"),
        )


@dataclass(frozen=True, slots=True)
class Card:
    """Card("Sodium is low", Source("Example hospital"), "warning")

    `detail` is GitHub Flavored Markdown. `selection_behavior` is required with suggestions and only allowed with them;
    under at-most-one no more than one suggestion is recommended.
    """

    summary: str
    source: Source
    indicator: Indicator = "info"
    detail: str | None = None
    suggestions: tuple[Suggestion, ...] = ()
    selection_behavior: SelectionBehavior | None = None
    override_reasons: tuple[CardCoding, ...] = ()
    links: tuple[Link, ...] = ()
    uuid: str = field(default_factory=new_uuid)

    def __post_init__(self) -> None:
        _require_text(self.summary, "summary")
        if len(self.summary) > MAX_SUMMARY:
            raise CardError(f"summary: {len(self.summary)} characters; fewer than 140 are allowed")
        _require_one_of(self.indicator, Indicator, "indicator")
        if not isinstance(self.source, Source):
            raise CardError("source: a Source is required")
        _require_text(self.uuid, "uuid")
        _check_optional_text(self, "detail")
        for name, kind in (("suggestions", Suggestion), ("override_reasons", CardCoding), ("links", Link)):
            object.__setattr__(self, name, _tuple_of(getattr(self, name), kind, name))
        if any(not (reason.system and reason.display) for reason in self.override_reasons):
            raise CardError("overrideReasons: code, system and display are required")
        self._check_selection()

    def _check_selection(self) -> None:
        behavior = self.selection_behavior
        if self.suggestions and behavior is None:
            raise CardError("selectionBehavior: required with suggestions")
        if behavior is not None:
            _require_one_of(behavior, SelectionBehavior, "selectionBehavior")
            if not self.suggestions:
                raise CardError("selectionBehavior: only allowed with suggestions")
        recommended = sum(suggestion.is_recommended for suggestion in self.suggestions)
        if behavior == "at-most-one" and recommended > 1:
            raise CardError(f"suggestions: at-most-one may be selected and {recommended} are recommended")

    def to_json(self) -> dict[str, Any]:
        return _without_empty(
            {
                "uuid": self.uuid,
                "summary": self.summary,
                "detail": self.detail,
                "indicator": self.indicator,
                "source": self.source.to_json(),
                "overrideReasons": [reason.to_json() for reason in self.override_reasons],
                "links": [link.to_json() for link in self.links],
                "suggestions": [suggestion.to_json() for suggestion in self.suggestions],
                "selectionBehavior": self.selection_behavior,
            }
        )

    @classmethod
    def from_json(cls, raw: Any) -> Card:
        """A card as a client receives it; unknown members are ignored. Raises CardError."""
        item = _object(raw, "card")
        return cls(
            summary=_member(item, "summary"),
            source=Source.from_json(item.get("source")),
            indicator=_member(item, "indicator"),
            detail=item.get("detail"),
            suggestions=tuple(Suggestion.from_json(each) for each in _list(item, "suggestions")),
            selection_behavior=item.get("selectionBehavior"),
            override_reasons=tuple(CardCoding.from_json(each) for each in _list(item, "overrideReasons")),
            links=tuple(Link.from_json(each) for each in _list(item, "links")),
            uuid=item.get("uuid") or new_uuid(),
        )


@dataclass(frozen=True, slots=True)
class HookResponse:
    """Cards, and actions that the client does without asking the clinician (`systemActions`)."""

    cards: tuple[Card, ...] = ()
    system_actions: tuple[Action, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cards", _tuple_of(self.cards, Card, "cards"))
        object.__setattr__(self, "system_actions", _tuple_of(self.system_actions, Action, "systemActions"))

    def to_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"cards": [card.to_json() for card in self.cards]}
        if self.system_actions:
            answer["systemActions"] = [action.to_json() for action in self.system_actions]
        return answer

    @classmethod
    def from_json(cls, raw: Any) -> HookResponse:
        """An answer as a client receives it; unknown members are ignored. Raises CardError."""
        item = _object(raw, "answer")
        if not isinstance(item.get("cards"), list):
            raise CardError("cards: a list is required")
        cards = tuple(Card.from_json(each) for each in item["cards"])
        return cls(cards, tuple(Action.from_json(each) for each in _list(item, "systemActions")))


def _without_empty(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None and value != [] and value != ""}


def _require_text(value: Any, name: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise CardError(f"{name}: a non-empty string is required")


def _check_optional_text(holder: Any, *names: str) -> None:
    for name in names:
        value = getattr(holder, name)
        if value is not None and not isinstance(value, str):
            raise CardError(f"{name}: expected a string")


def _require_absolute(value: Any, name: str) -> None:
    _require_text(value, name)
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise CardError(f"{name}: an absolute http(s) URL is required")


def _require_one_of(value: Any, allowed: Any, name: str) -> None:
    if value not in get_args(allowed):
        raise CardError(f"{name}: one of {', '.join(get_args(allowed))} is required")


def _tuple_of(values: Iterable[Any], kind: type, name: str) -> tuple[Any, ...]:
    found = tuple(values)
    if not all(isinstance(value, kind) for value in found):
        raise CardError(f"{name}: expected {kind.__name__} objects")
    return found


def _object(raw: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise CardError(f"{name}: an object is required")
    return raw


def _member(item: Mapping[str, Any], name: str) -> Any:
    """A member of any type, which its class validates."""
    if name not in item:
        raise CardError(f"{name}: required")
    return item[name]


def _list(item: Mapping[str, Any], name: str) -> list[Any]:
    value = item.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise CardError(f"{name}: expected a list")
    return value
