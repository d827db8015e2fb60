"""The database: cards, feedback, used token ids, modes, and the audit chain."""

from cds_service.store.audit import AuditEntry, Verification
from cds_service.store.errors import StoreError
from cds_service.store.store import Asker, CardRecord, Override, Store

__all__ = [
    "Asker",
    "AuditEntry",
    "CardRecord",
    "Override",
    "Store",
    "StoreError",
    "Verification",
]
