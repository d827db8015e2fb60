"""Cards: assessments in the words of CDS Hooks. Fixed templates; every foreign string is escaped."""

from cds_service.cards.card import build_card
from cds_service.cards.escape import gfm, plain

__all__ = [
    "build_card",
    "gfm",
    "plain",
]
