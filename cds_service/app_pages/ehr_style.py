"""The EHR's colours and sizes as CSS of the app's pages (SMART 2.2, "Styling").

Only validated values are used, and only if the text stays readable; nothing of the EHR's file is copied verbatim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

READABLE = 4.5
"""WCAG 2.2, 1.4.3: the minimum contrast of text."""
DARK = 0.18
"""A background below this luminance is dark."""
_FONT_PX, _RADIUS_PX = (12.0, 20.0), (0.0, 24.0)
_PX = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)px\Z")
_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")
_ROOT = re.compile(r"#[0-9a-fA-F]{3}\Z")


def scheme_of(style: Mapping[str, str]) -> str:
    """Returns light or dark by the EHR's background; empty without one, which keeps the browser's choice."""
    background = _colour(style.get("color_background"))
    return "" if background is None else "dark" if luminance(background) < DARK else "light"


def stylesheet(style: Mapping[str, str]) -> str:
    """Returns CSS for the usable values.

    >>> stylesheet({"color_background": "#ffffff", "color_text": "#eeeeee", "dim_font_size": "14px"})
    'body{font-size:14px}'
    """
    variables = "".join(f"--{name}:{value};" for name, value in _variables(style))
    rules = [f":root:root{{{variables}}}"] if variables else []
    size, radius = _pixels(style.get("dim_font_size"), _FONT_PX), _pixels(style.get("dim_border_radius"), _RADIUS_PX)
    rules += [f"body{{font-size:{size:g}px}}"] if size is not None else []
    rules += [f".panel{{border-radius:{radius:g}px}}"] if radius is not None else []
    return "".join(rules)


def _variables(style: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Background and text only together; other colours only if readable on that background."""
    background, text = _colour(style.get("color_background")), _colour(style.get("color_text"))
    if background is None or text is None or contrast(background, text) < READABLE:
        return
    yield from (("back", background), ("paper", background), ("ink", text), ("dim", text))
    for name, given in (("accent", "color_highlight"), ("bad", "color_error"), ("good", "color_success")):
        colour = _colour(style.get(given))
        if colour is not None and contrast(colour, background) >= READABLE:
            yield name, colour


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2).

    >>> luminance("#000000"), round(luminance("#ffffff"), 3)
    (0.0, 1.0)
    """
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """
    >>> contrast("#000000", "#ffffff")
    21.0
    """
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return round((high + 0.05) / (low + 0.05), 2)


def _colour(given: str | None) -> str | None:
    """`#rrggbb`, or None for anything else, transparent colours included."""
    if given and _ROOT.match(given):
        given = "#" + "".join(2 * sign for sign in given[1:])
    return given.lower() if given and _HEX.match(given) else None


def _pixels(given: str | None, allowed: tuple[float, float]) -> float | None:
    found = _PX.match(given or "")
    return None if found is None else min(max(float(found[1]), allowed[0]), allowed[1])
