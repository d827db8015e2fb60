"""Who may ask: configured CDS clients, their keys, and the verification of their tokens (CDS Hooks 3.0, "Security")."""

from cds_service.trust.clients import CdsClient, ClientsError, ClientsFile
from cds_service.trust.tokens import TokenRefusedError, TokenVerifier

__all__ = ["CdsClient", "ClientsError", "ClientsFile", "TokenRefusedError", "TokenVerifier"]
