"""CDS Hooks cards built from assessments by fixed templates; every string from a chart is escaped."""

from cds_service.cards.card import build_card
from cds_service.cards.escape import gfm, plain

__all__ = [
    "build_card",
    "gfm",
    "plain",
]
