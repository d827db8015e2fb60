"""Verification of CDS clients' tokens by `cds_hooks`, with keys fetched through the outbound gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cds_hooks import FetchError, ReplayStore, TokenRefusedError, Trust
from cds_service.access import client_keys
from cds_service.access.admission import RateLimit
from cds_service.access.client_keys import jwks_fetcher
from cds_service.access.clients import CdsClient
from cds_service.access.deadlines import DeadlineRunner
from cds_service.net.outbound import Networks, Outbound
from cds_service.store.errors import StoreError
from cds_service.store.store import Asker

KEY_FETCHES = 8
"""Key sets that are fetched at once."""
__all__ = ["Caller", "TokenRefusedError", "TokenVerifier"]


@dataclass(frozen=True, slots=True)
class Caller:
    client: CdsClient
    tenant: str | None

    @property
    def asker(self) -> Asker:
        """The client as cards and feedback in the store name it."""
        return Asker(self.client.name, self.tenant)


class TokenVerifier:
    """TokenVerifier(clients, replay).verify(authorization_header, url) -> Caller

    `base_url` is our configured address: what a token is for never comes from the Host header. Every call counts for
    the `rate` of its client.
    """

    def __init__(
        self,
        clients: Callable[[], Mapping[str, CdsClient]],
        replay: ReplayStore,
        networks: Networks | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        base_url: str = "",
        rate: RateLimit | None = None,
    ) -> None:
        self.base_url = base_url
        self._rate = rate or RateLimit(0)
        self._outbound = Outbound(networks)
        self._clients = clients
        self._fetches = DeadlineRunner(KEY_FETCHES)
        self.trust = Trust("", clients, fetch_jwks=self._fetch_jwks, replay=replay, clock=clock)

    def verify(self, authorization: str | None, url: str) -> Caller:
        """The client that calls `url`. Raises TokenRefusedError, StoreError, RateLimitedError."""
        try:
            found = self.trust.verify(authorization, url)
        except TokenRefusedError as error:
            client = self._clients().get(str(error.details.get("iss")))
            raise TokenRefusedError(error.reason, client=client and client.name, **error.details) from None
        self._rate.take(found.issuer.name)
        return Caller(found.issuer, found.tenant)

    def _fetch_jwks(self, url: str) -> bytes:
        # In a pool of its own and within its time, whatever hangs: name resolution, connection, answer.
        try:
            until = time.monotonic() + 2 * client_keys.FETCH_SECONDS
            return self._fetches.run(until, jwks_fetcher(self._outbound), url)
        except StoreError:
            raise FetchError("too-slow") from None
