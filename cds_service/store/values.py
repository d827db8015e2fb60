"""The values that the store takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

UNSEEN = ("app", "refresh")
"""Services whose estimates are stored and replayed like cards, but are no alerts: pages of the app, refreshes."""


@dataclass(frozen=True, slots=True)
class CardRecord:
    """One card to store; `estimates` have the model and the exact inputs, so that it can be replayed."""

    uuid: str
    service: str
    hook_instance: str
    patient: str
    encounter: str | None
    user: str
    indicator: str
    shown: str
    estimates: Sequence[Mapping[str, Any]]
    suggestions: Sequence[str] = ()
    client: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Asker:
    """The client and the tenant that the token of a request names."""

    client: str | None
    tenant: str | None


@dataclass(frozen=True, slots=True)
class Override:
    """The last time this user overrode a card of this stay, and the estimates on that card."""

    at: datetime
    probabilities: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CardTasks:
    """A card with the tasks it has an estimate, or an abstention, for."""

    uuid: str
    patient: tuple[str, str | None, str | None]
    """Its hash, the client and the tenant."""
    tasks: set[str]


class ImportedOutcomes(NamedTuple):
    """The numbers of outcomes that were new, and of known ones that were corrected."""

    new: int
    corrected: int
