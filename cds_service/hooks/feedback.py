"""Stores feedback on cards, all entries of a request or none."""

from __future__ import annotations

from cds_hooks import AcceptedFeedback, Feedback, UnknownCardError
from cds_service.store.store import Asker, Store


def keep_feedback(service: str, entries: tuple[Feedback, ...], store: Store, asker: Asker | None = None) -> None:
    """Stores the entries of one POST; a repeated entry is stored once.

    Raises UnknownCardError for a card that this service did not send to this client, and stores none then.
    """
    for number, entry in enumerate(entries):
        if store.card_service(entry.card, asker) != service:
            raise UnknownCardError(f"feedback[{number}].card: this service sent no such card")
        if isinstance(entry, AcceptedFeedback) and set(entry.suggestions) - store.suggestions_of(entry.card):
            raise UnknownCardError(f"feedback[{number}].acceptedSuggestions: not of this card")
    store.add_feedback([entry.to_json() for entry in entries])
