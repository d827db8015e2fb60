"""Estimates of a server's inpatients that stay fresh: notified or polled changes, a queue, estimates, write-back."""

from cds_service.refresh.servers import RefreshServer, refresh_servers

__all__ = [
    "RefreshServer",
    "refresh_servers",
]
