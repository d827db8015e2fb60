"""The EHR's style from `smart_style_url` (SMART 2.2, "Styling"), validated.

Only values that are a colour, a length or a list of font names are used.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from cds_service.net.outbound import Outbound, OutboundError

STYLE_SECONDS = 1.5
MAX_STYLE = 32 * 1024
_COLOUR = re.compile(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})\Z")
_LENGTH = re.compile(r"\d{1,4}(\.\d{1,3})?(px|rem|em|pt|%)\Z")
_FONTS = re.compile(r"[A-Za-z0-9 \-]{1,60}(, ?[A-Za-z0-9 \-]{1,60}){0,9}\Z")
_SHAPES = {
    **dict.fromkeys(
        ("color_background", "color_error", "color_highlight", "color_modal_backdrop", "color_success", "color_text"),
        _COLOUR,
    ),
    **dict.fromkeys(("dim_border_radius", "dim_font_size", "dim_spacing_size"), _LENGTH),
    **dict.fromkeys(("font_family_body", "font_family_heading"), _FONTS),
}


def style_of(url: Any, iss: str, token_endpoint: str, outbound: Outbound) -> dict[str, str]:
    """Returns the style; empty if there is none, it is at another origin than the EHR, or it times out."""
    if not isinstance(url, str) or not any(_same_origin(url, own) for own in (iss, token_endpoint)):
        return {}
    try:
        answer = outbound.request(
            "GET",
            url,
            headers={"Accept": "application/json"},
            deadline=time.monotonic() + STYLE_SECONDS,
            max_bytes=MAX_STYLE,
        )
        found = orjson.loads(answer.body) if answer.status == 200 else {}
    except (OutboundError, orjson.JSONDecodeError):
        return {}
    return checked(found) if isinstance(found, dict) else {}


def checked(given: Mapping[str, Any]) -> dict[str, str]:
    """
    >>> checked({"color_text": "#112233", "dim_font_size": "13px", "color_error": "red;} x{", "x": "1px"})
    {'color_text': '#112233', 'dim_font_size': '13px'}
    """
    values = ((name, str(given[name]).replace("'", "").replace('"', "")) for name in _SHAPES if name in given)
    return {name: value for name, value in values if _SHAPES[name].match(value)}


def _same_origin(url: str, own: str) -> bool:
    try:
        a, b = urlsplit(url), urlsplit(own)
        return (a.scheme, a.hostname, a.port) == (b.scheme, b.hostname, b.port) and a.username is None
    except ValueError:
        return False
