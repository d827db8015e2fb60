"""Stores feedback on cards, all entries of a request or none."""

from __future__ import annotations

import orjson

from cds_hooks import AcceptedFeedback, Feedback, TooLargeError, UnknownCardError
from cds_service.store.store import Asker, Store

MAX_BYTES = 64 * 1024
"""Of one entry: fifty are stored for a card, and a body of ten megabytes each would be half a gigabyte."""


def keep_feedback(service: str, entries: tuple[Feedback, ...], store: Store, asker: Asker | None = None) -> None:
    """Stores the entries of one POST; a repeated entry is stored once.

    Raises UnknownCardError for a card that this service did not send to this client, and TooLargeError for an entry
    that is no clinician's answer, and stores none then.
    """
    for number, entry in enumerate(entries):
        if len(orjson.dumps(entry.to_json())) > MAX_BYTES:
            raise TooLargeError(f"feedback[{number}]: at most {MAX_BYTES} bytes")
        if store.card_service(entry.card, asker) != service:
            raise UnknownCardError(f"feedback[{number}].card: this service sent no such card")
        if isinstance(entry, AcceptedFeedback) and set(entry.suggestions) - store.suggestions_of(entry.card):
            raise UnknownCardError(f"feedback[{number}].acceptedSuggestions: not of this card")
    store.add_feedback([entry.to_json() for entry in entries])
