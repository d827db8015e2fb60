"""One request on its way through the handler: its mode, tasks, client, deadlines and trace."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cds_hooks import HookRequest
from cds_service.access.tokens import Caller
from cds_service.config.modes import Mode
from cds_service.config.settings import Settings
from cds_service.hooks.assessment_cache import Key
from cds_service.hooks.request_trace import Trace
from cds_service.services import Service
from cds_service.store.store import Asker

# Shares of the time for an answer after which fetching ends and the assessment starts no more searches for literature;
# the rest is for storing the card.
_FETCHING, _ASSESSING = 0.65, 0.85


@dataclass(frozen=True, slots=True)
class Due:
    """The deadlines of the parts of an answer, of `time.monotonic()`."""

    fetched: float
    assessed: float
    answered: float

    @classmethod
    def of(cls, settings: Settings, spent: float = 0.0) -> Due:
        """The deadlines from now, of which `spent` seconds have already passed."""
        now, seconds = time.monotonic() - spent, settings.deadline_seconds
        return cls(now + _FETCHING * seconds, now + _ASSESSING * seconds, now + seconds)


@dataclass(frozen=True, slots=True)
class HookCall:
    """One request with its mode, tasks, client, deadlines and trace."""

    service: Service
    request: HookRequest
    mode: Mode
    tasks: tuple[str, ...]
    """Those of the service that are not off."""
    caller: Caller | None
    due: Due
    trace: Trace = field(default_factory=Trace)

    @property
    def asker(self) -> Asker:
        """The client and tenant of the token; both None without authentication."""
        return asker_of(self.caller)

    @property
    def key(self) -> Key:
        """What two requests have in common that may have the same answer."""
        request, asker = self.request, self.asker
        return (
            asker.client,
            asker.tenant,
            self.service.id,
            ",".join(self.tasks),
            request.patient_id,
            request.encounter_id,
            request.prefetch.sha256,
        )


def asker_of(caller: Caller | None) -> Asker:
    return Asker(None, None) if caller is None else caller.asker
