"""HTML reports, figures as SVG, model cards, and the TRIPOD+AI checklist."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.reports.evaluation_page import measures
    from risk_model.reports.figures import cards_by_day, stability
    from risk_model.reports.svg_drawing import require_matplotlib
    from risk_model.reports.templating import render, shared_stylesheet

__all__ = [
    "cards_by_day",
    "measures",
    "render",
    "require_matplotlib",
    "shared_stylesheet",
    "stability",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "cards_by_day": "risk_model.reports.figures",
        "measures": "risk_model.reports.evaluation_page",
        "render": "risk_model.reports.templating",
        "require_matplotlib": "risk_model.reports.svg_drawing",
        "shared_stylesheet": "risk_model.reports.templating",
        "stability": "risk_model.reports.figures",
    },
)
