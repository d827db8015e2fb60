"""Monitoring: what the cards ask of people, what people make of them, and whether the models still fit. It only tells.

watch(store, models, days=30, now=...) -> the document of `riskcards monitor --json`
"""

from cds_service.monitoring.document import burden, watch

__all__ = ["burden", "watch"]
