"""The queue, the estimates and the receiver, opened for a service or a command."""

from __future__ import annotations

import logging
from datetime import timedelta

from cds_service.access.admission import RateLimit
from cds_service.config.settings import Settings
from cds_service.oauth.clients import SmartClient
from cds_service.oauth.vault import Vault, open_cipher
from cds_service.refresh.estimates import FreshEstimates
from cds_service.refresh.jobs import RefreshJobs
from cds_service.refresh.receiver import NotificationReceiver, Timed
from cds_service.store.store import Store

LOG = logging.getLogger("riskcards")


def refresh_jobs(settings: Settings, store: Store) -> RefreshJobs:
    """Raises SmartSetupError for a session key that cannot be used."""
    settle = timedelta(seconds=settings.refresh_settle_seconds)
    return RefreshJobs(store, open_cipher(settings.session_key_path()), settle)


def fresh_estimates(settings: Settings, store: Store) -> FreshEstimates:
    """Raises SmartSetupError for a session key that cannot be used."""
    return FreshEstimates(Vault(store.sealed, open_cipher(settings.session_key_path())), store)


def notification_receiver(
    settings: Settings, store: Store, clients: list[SmartClient], in_time: Timed
) -> NotificationReceiver | None:
    """The receiver of the refreshed clients that have a secret; None without one."""
    chosen = {client.name: client for client in clients if client.name in settings.refresh_clients}
    for name in sorted(set(settings.refresh_clients) - set(chosen)):
        LOG.warning("RISKCARDS_REFRESH_CLIENTS names %s, which is no client of RISKCARDS_SMART_CLIENTS", name)
    known = {name: client for name, client in chosen.items() if client.subscription_secrets}
    if not known:
        return None
    return NotificationReceiver(
        known, refresh_jobs(settings, store), RateLimit(settings.notifications_per_minute), in_time
    )
