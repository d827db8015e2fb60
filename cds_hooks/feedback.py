"""Feedback on cards (CDS Hooks, "Feedback"): parsing, and validated objects.

    parse_feedback(body) -> (AcceptedFeedback(...), OverriddenFeedback(...))
    {"feedback": [AcceptedFeedback(card_uuid, "2026-06-01T10:00:00Z", (suggestion_uuid,)).to_json()]}

The same card may be reported on more than once, and one POST may report on several cards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeGuard

from cds_hooks.errors import FeedbackError, MalformedRequestError, TooLargeError
from cds_hooks.strict_json import parse_json

MAX_FEEDBACK = 200
"""Entries in one POST."""
MAX_COMMENT = 4_000
MAX_TEXT = 200
"""Characters of an id or code."""
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}([Tt]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})?)?\Z")
_LEAP_SECOND = re.compile(r":60\b")


@dataclass(frozen=True, slots=True)
class OverrideReason:
    """Why a card was overridden: a code of the card's overrideReasons, the clinician's own comment, or both."""

    code: str | None = None
    system: str | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        if not self.code and not self.comment:
            raise FeedbackError("overrideReason: reason or userComment is required")

    def to_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        if self.code:
            answer["reason"] = {"code": self.code} | ({"system": self.system} if self.system is not None else {})
        if self.comment:
            answer["userComment"] = self.comment
        return answer


@dataclass(frozen=True, slots=True)
class AcceptedFeedback:
    """At least one suggestion of a card was accepted. `suggestions` are their uuids."""

    card: str
    outcome_timestamp: str
    suggestions: tuple[str, ...]
    outcome: ClassVar[str] = "accepted"

    def __post_init__(self) -> None:
        _check(self.card, self.outcome_timestamp)
        if not self.suggestions or not all(isinstance(each, str) and each for each in self.suggestions):
            raise FeedbackError("acceptedSuggestions: required when accepted")

    def to_json(self) -> dict[str, Any]:
        accepted = [{"id": suggestion} for suggestion in self.suggestions]
        return {
            "card": self.card,
            "outcome": self.outcome,
            "outcomeTimestamp": self.outcome_timestamp,
            "acceptedSuggestions": accepted,
        }


@dataclass(frozen=True, slots=True)
class OverriddenFeedback:
    """A card was dismissed, with or without a reason."""

    card: str
    outcome_timestamp: str
    reason: OverrideReason | None = None
    outcome: ClassVar[str] = "overridden"

    def __post_init__(self) -> None:
        _check(self.card, self.outcome_timestamp)

    def to_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "card": self.card,
            "outcome": self.outcome,
            "outcomeTimestamp": self.outcome_timestamp,
        }
        return answer if self.reason is None else answer | {"overrideReason": self.reason.to_json()}


Feedback = AcceptedFeedback | OverriddenFeedback


def parse_feedback(body: bytes) -> tuple[Feedback, ...]:
    """The entries of one POST, with uuids in lower case: they are case-insensitive (RFC 9562, section 4).

    Raises MalformedRequestError 400 with the path of the fault, TooLargeError 413.
    """
    raw = parse_json(body).get("feedback")
    if not isinstance(raw, list) or not raw:
        raise MalformedRequestError("required", "feedback: a non-empty list is required")
    if len(raw) > MAX_FEEDBACK:
        raise TooLargeError(f"more than {MAX_FEEDBACK} entries in one POST")
    return tuple(_entry(item, f"feedback[{number}]") for number, item in enumerate(raw))


def is_timestamp(value: Any) -> TypeGuard[str]:
    """Whether this is an ISO date, or date and time.

    >>> is_timestamp("2026-06-01T10:00:00Z"), is_timestamp("soon"), is_timestamp("2026-02-30")
    (True, False, False)
    """
    if not isinstance(value, str) or not _TIMESTAMP.match(value):
        return False
    try:
        # A leap second is legal in FHIR and unknown to Python.
        datetime.fromisoformat(_LEAP_SECOND.sub(":59", value.upper()))
    except ValueError:
        return False
    return True


def _check(card: Any, timestamp: Any) -> None:
    if not isinstance(card, str) or not card:
        raise FeedbackError("card: the uuid of a card is required")
    if not is_timestamp(timestamp):
        raise FeedbackError("outcomeTimestamp: an ISO time is required")


def _entry(item: Any, path: str) -> Feedback:
    if not isinstance(item, dict):
        raise MalformedRequestError("structure", f"{path}: expected an object")
    outcome, timestamp = item.get("outcome"), item.get("outcomeTimestamp")
    if outcome not in ("accepted", "overridden"):
        raise MalformedRequestError("value", f"{path}.outcome: accepted or overridden")
    if not is_timestamp(timestamp):
        raise MalformedRequestError("value", f"{path}.outcomeTimestamp: an ISO time is required")
    card = _text(item, "card", path).lower()
    if outcome == "accepted":
        return AcceptedFeedback(card, timestamp, _accepted(item, path))
    reason = item.get("overrideReason")
    return OverriddenFeedback(
        card, timestamp, None if reason is None else _override_reason(reason, f"{path}.overrideReason")
    )


def _accepted(item: Mapping[str, Any], path: str) -> tuple[str, ...]:
    suggestions = item.get("acceptedSuggestions")
    if not isinstance(suggestions, list) or not suggestions:
        raise MalformedRequestError("required", f"{path}.acceptedSuggestions: required when accepted")
    ids = [_text(each, "id", f"{path}.acceptedSuggestions").lower() for each in suggestions if isinstance(each, dict)]
    if len(ids) != len(suggestions):
        raise MalformedRequestError("structure", f"{path}.acceptedSuggestions: objects with an id")
    return tuple(ids)


def _override_reason(raw: Any, path: str) -> OverrideReason:
    if not isinstance(raw, dict) or not (raw.get("reason") or raw.get("userComment")):
        raise MalformedRequestError("required", f"{path}: reason or userComment is required")
    code = system = None
    reason, comment = raw.get("reason"), raw.get("userComment")
    if reason:
        if not isinstance(reason, dict):
            raise MalformedRequestError("structure", f"{path}.reason: expected a Coding")
        code = _text(reason, "code", f"{path}.reason")
        system = reason["system"][:MAX_TEXT] if isinstance(reason.get("system"), str) else None
    if comment and not isinstance(comment, str):
        raise MalformedRequestError("structure", f"{path}.userComment: expected text")
    return OverrideReason(code, system, comment[:MAX_COMMENT] if comment else None)


def _text(holder: Mapping[str, Any], name: str, path: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise MalformedRequestError("required", f"{path}.{name}: a non-empty string is required")
    return value
