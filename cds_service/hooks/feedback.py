"""Stores feedback on cards, all entries of a request or none."""

from __future__ import annotations

from cds_hooks import AcceptedFeedback, UnknownCardError, parse_feedback
from cds_service.protocol.services import Service
from cds_service.store.store import Asker, Store


def receive(body: bytes, service: Service, store: Store, asker: Asker | None = None) -> tuple[str, ...]:
    """The outcome of each entry of one POST, which are stored; a repeated entry is stored once.

    Raises MalformedRequestError, with the path of the fault, and UnknownCardError for a card not sent to this client.
    """
    entries = parse_feedback(body)
    for number, entry in enumerate(entries):
        if store.card_service(entry.card, asker) != service.id:
            raise UnknownCardError(f"feedback[{number}].card: this service sent no such card")
        if isinstance(entry, AcceptedFeedback) and set(entry.suggestions) - store.suggestions_of(entry.card):
            raise UnknownCardError(f"feedback[{number}].acceptedSuggestions: not of this card")
    store.add_feedback([entry.to_json() for entry in entries])
    return tuple(entry.outcome for entry in entries)
