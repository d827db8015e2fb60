"""HTML reports, figures as SVG, model cards, and the TRIPOD+AI checklist."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.reports.figures import cards_by_day, require_matplotlib, stability
    from risk_model.reports.html_report import html_page, html_table, metric_table, shared_stylesheet

__all__ = [
    "cards_by_day",
    "html_page",
    "html_table",
    "metric_table",
    "require_matplotlib",
    "shared_stylesheet",
    "stability",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "cards_by_day": "risk_model.reports.figures",
        "html_page": "risk_model.reports.html_report",
        "html_table": "risk_model.reports.html_report",
        "metric_table": "risk_model.reports.html_report",
        "require_matplotlib": "risk_model.reports.figures",
        "shared_stylesheet": "risk_model.reports.html_report",
        "stability": "risk_model.reports.figures",
    },
)
