"""The clinician's app behind the risk card: the whole reasoning on one page, rendered by the server."""

from cds_service.app_pages.blueprint import app_pages
from cds_service.app_pages.chart import ChartSource, OpenChart

__all__ = [
    "ChartSource",
    "OpenChart",
    "app_pages",
]
