"""Sphinx configuration: `make docs` builds the site offline, and a warning is an error."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import Any

project = "riskcards"
author = "the riskcards developers"
copyright = "the riskcards developers, Apache-2.0"
version = release = version_of("riskcards")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
exclude_patterns = ["decisions/README.md"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["myst.xref_missing"]
smartquotes = False  # `--task` must stay two hyphens
html_theme = "furo"
html_title = "riskcards"
html_show_sourcelink = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"


def _escape(_app: Any, _context: Any, lines: list[str]) -> None:
    """In help texts an asterisk is a wildcard, never emphasis."""
    lines[:] = [re.sub(r"(?<![*\\])\*(?!\*)", r"\\*", line) for line in lines]


def setup(app: Any) -> None:
    """Connects the events of sphinx_click."""
    for part in ("description", "usage", "options"):
        app.connect(f"sphinx-click-process-{part}", _escape)
