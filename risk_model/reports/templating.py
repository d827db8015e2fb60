"""Renders HTML reports from Jinja templates: no script, no resources from other hosts, fit for print.

Templates extend `report_page.html` and import the macros of `report_macros.html`. Everything is escaped except the SVG
of `figures`, which its template marks as safe.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

FOOT = (
    "riskcards informs clinicians; it does not decide, diagnose or direct care. Its models were trained on patients of "
    "other hospitals."
)


@cache
def shared_stylesheet() -> str:
    """The stylesheet that the app, the reports and the demo share: colours, type, tables, print."""
    return files("risk_model.tables").joinpath("shared.css").read_text("utf-8")


def render(template: str, *, package: str = "risk_model.reports", **values: Any) -> str:
    """Returns the page of `template`, a file in the folder `templates` of `package`.

    Raises jinja2.UndefinedError if a value that the template uses is missing.
    """
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    own = PackageLoader("risk_model.reports")
    loader = own if package == "risk_model.reports" else ChoiceLoader([PackageLoader(package), own])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["foot"] = FOOT
    environment.globals["style"] = shared_stylesheet() + files("risk_model.tables").joinpath("report.css").read_text()
    return environment
