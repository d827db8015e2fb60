"""Feedback on cards in all its forms (CDS Hooks 3.0, "Feedback"): checked, then stored whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cds_hooks import HookError, parse_json
from cds_service.services import Service
from cds_service.store import Asker, Store
from fhir_mapping.times import parse_instant

MAX_ENTRIES = 200
MAX_COMMENT = 4_000


def receive(body: bytes, service: Service, store: Store, asker: Asker | None = None) -> tuple[str, ...]:
    """Store the entries of one POST, a repeated one once; returns the outcome of each.

    Raises HookError 400 with the path of the fault, 404 for a card this service never sent to who asks.
    """
    raw = parse_json(body).get("feedback")
    if not isinstance(raw, list) or not raw:
        raise HookError(400, "required", "feedback: a non-empty list is required")
    if len(raw) > MAX_ENTRIES:
        raise HookError(413, "too-costly", f"more than {MAX_ENTRIES} entries in one POST")
    entries = [_entry(item, f"feedback[{number}]") for number, item in enumerate(raw)]
    for number, entry in enumerate(entries):
        if store.card_service(entry["card"], asker) != service.id:
            raise HookError(404, "not-found", f"feedback[{number}].card: this service sent no such card")
        unknown = {s["id"] for s in entry.get("acceptedSuggestions", ())} - store.suggestions_of(entry["card"])
        if unknown:
            raise HookError(404, "not-found", f"feedback[{number}].acceptedSuggestions: not of this card")
    store.add_feedback(entries)
    return tuple(entry["outcome"] for entry in entries)


def _entry(item: Any, path: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise HookError(400, "structure", f"{path}: expected an object")
    outcome = item.get("outcome")
    if outcome not in ("accepted", "overridden"):
        raise HookError(400, "value", f"{path}.outcome: accepted or overridden")
    if parse_instant(item.get("outcomeTimestamp")) is None:
        raise HookError(400, "value", f"{path}.outcomeTimestamp: an ISO time is required")
    card = _word(item, "card", path).lower()  # as ours are; capitals name the same UUID (RFC 9562, section 4)
    entry = {
        "card": card,
        "outcome": outcome,
        "outcomeTimestamp": item["outcomeTimestamp"],
    }
    if outcome == "accepted":
        entry |= _accepted(item, path)
    elif item.get("overrideReason") is not None:
        entry["overrideReason"] = _override(item["overrideReason"], f"{path}.overrideReason")
    return entry


def _accepted(item: Mapping[str, Any], path: str) -> dict[str, Any]:
    suggestions = item.get("acceptedSuggestions")
    if not isinstance(suggestions, list) or not suggestions:
        raise HookError(400, "required", f"{path}.acceptedSuggestions: required when accepted")
    ids = [_word(s, "id", f"{path}.acceptedSuggestions").lower() for s in suggestions if isinstance(s, dict)]
    if len(ids) != len(suggestions):
        raise HookError(400, "structure", f"{path}.acceptedSuggestions: objects with an id")
    return {"acceptedSuggestions": [{"id": found} for found in ids]}


def _override(raw: Any, path: str) -> dict[str, Any]:
    """A reason, a comment, or both."""
    if not isinstance(raw, dict) or not (raw.get("reason") or raw.get("userComment")):
        raise HookError(400, "required", f"{path}: reason or userComment is required")
    answer: dict[str, Any] = {}
    reason = raw.get("reason")
    if reason:
        if not isinstance(reason, dict):
            raise HookError(400, "structure", f"{path}.reason: expected a Coding")
        answer["reason"] = {"code": _word(reason, "code", f"{path}.reason")}
        if isinstance(reason.get("system"), str):
            answer["reason"]["system"] = reason["system"][:200]
    comment = raw.get("userComment")
    if comment:
        if not isinstance(comment, str):
            raise HookError(400, "structure", f"{path}.userComment: expected text")
        answer["userComment"] = comment[:MAX_COMMENT]
    return answer


def _word(holder: Mapping[str, Any], name: str, path: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise HookError(400, "required", f"{path}.{name}: a non-empty string is required")
    return value
