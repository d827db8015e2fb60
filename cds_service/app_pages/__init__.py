"""The clinician's app behind the risk card: a server-rendered page that explains the estimate."""

from cds_service.app_pages.blueprint import app_pages
from cds_service.app_pages.chart import ChartSource, OpenChart

__all__ = [
    "ChartSource",
    "OpenChart",
    "app_pages",
]
