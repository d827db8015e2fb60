"""Which clients may call and how much at once: clients file, keys, tokens, rate and load limits, deadlines."""

from cds_service.access.clients import CdsClient, ClientsError, ClientsFile
from cds_service.access.tokens import TokenVerifier

__all__ = [
    "CdsClient",
    "ClientsError",
    "ClientsFile",
    "TokenVerifier",
]
