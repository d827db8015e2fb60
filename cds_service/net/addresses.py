"""The address of a client behind proxies: only what a proxy of ours says of it is believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from cds_service.net.outbound import Networks


def client_address(remote: str, forwarded_for: str, trusted: Iterable[str]) -> str:
    """The last address of the way, from our side, that is no trusted proxy; anything before it may be made up.

    >>> client_address("10.0.0.1", "6.6.6.6, 203.0.113.7", ["10.0.0.0/8"])
    '203.0.113.7'
    >>> client_address("198.51.100.9", "6.6.6.6", ["10.0.0.0/8"])
    '198.51.100.9'
    """
    networks = Networks.of(trusted).private
    way = [*(part.strip() for part in forwarded_for.split(",") if part.strip()), remote]
    for place in reversed(way):
        try:
            address = ipaddress.ip_address(place)
        except ValueError:
            return remote  # a proxy of ours writes addresses
        if not any(address in network for network in networks):
            return place
    return way[0]
