"""Authentication of CDS clients: the clients file, their keys, and the verification of their tokens."""

from cds_service.auth.clients import CdsClient, ClientsError, ClientsFile
from cds_service.auth.tokens import TokenVerifier

__all__ = [
    "CdsClient",
    "ClientsError",
    "ClientsFile",
    "TokenVerifier",
]
