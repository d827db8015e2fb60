"""Drawings by matplotlib as `<svg>` elements of a page: coloured by the page, the same bytes on every run.

Colours are written as CSS variables of the page, so one drawing serves light, dark and print. Each drawing carries a
title and a description for screen readers, and ids of its own, so that one page can hold several.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import Any
from xml.sax.saxutils import escape

from risk_model.core.errors import MissingExtraError

# What matplotlib draws with, and what the page's stylesheet calls it.
INK, DIM, LINE, ACCENT, SECOND = "#16233a", "#5a6880", "#c9d2de", "#2f5d9b", "#b0602c"
_VARIABLES = {INK: "ink", DIM: "dim", LINE: "line", ACCENT: "accent", SECOND: "second"}
_SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "riskcards",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": LINE,
    "axes.labelcolor": DIM,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "xtick.color": DIM,
    "ytick.color": DIM,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
}
SIZE = (4.1, 3.6)


def require_matplotlib() -> None:
    """Fails before long work that ends with a figure. Raises MissingExtraError without the extra `report`."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", extra="report") from None


def svg_of(
    name: str, title: str, description: str, draw: Callable[[Any], None], size: tuple[float, float] = SIZE
) -> str:
    """One figure as an <svg> element: no fixed colours, no date, ids that begin with its name."""
    require_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = dict(matplotlib.rcParamsDefault) | _SETTINGS
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        draw(axes)
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_page(text.getvalue(), name, title, description)


def _for_page(svg: str, name: str, title: str, description: str) -> str:
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"font: [^;\"]*?(\d+(?:\.\d+)?)px[^;\"]*", r"font-size: \1px", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    head = re.match(r"<svg[^>]*>", body)
    assert head is not None
    box = re.search(r'viewBox="([^"]+)"', head.group())
    assert box is not None
    start = f'<svg viewBox="{box.group(1)}" role="img" aria-labelledby="{name}-title {name}-description">'
    words = (
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
    )
    return start + words + re.sub(r"\n\s*", "\n", body[head.end() :]).strip()
