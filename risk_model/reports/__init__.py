"""HTML reports, figures as SVG, model cards, and the TRIPOD+AI checklist."""

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
