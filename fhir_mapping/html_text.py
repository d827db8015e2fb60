"""HTML to plain text: script, style and hidden elements go; blocks, list items and table cells keep their borders.

The nesting is measured before the parser sees the document: a parser that is quadratic in depth would take minutes over
a megabyte of nested `<div>`.
"""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

MAX_DEPTH = 200
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})
_DROPPED = frozenset({"script", "style", "head", "template", "noscript", "iframe", "object", "svg", "title"})
_BLOCK = re.compile(
    r"(address|article|aside|blockquote|body|caption|d[dlt]|div|foot(er)?|form|h[1-6r]|header|li|main|nav|[ou]l|p|pre"
    r"|section|table|t(body|d|foot|h|head|r))\Z"
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\r\f\v\u00a0]+")


class TooDeepError(ValueError):
    """The document nests deeper than any note does."""


def html_to_text(html: str) -> str:
    """Readable text of an HTML note.

    >>> html_to_text("<h2>Plan</h2><table><tr><td>Na</td><td>131</td></tr></table><script>x()</script>")
    'Plan\\nNa | 131'

    Raises TooDeepError past `MAX_DEPTH` open elements.
    """
    _check_depth(html)
    root = LexborHTMLParser(html).body
    if root is None:
        return ""
    pieces: list[str] = []
    _walk(root, pieces)
    lines = (_SPACES.sub(" ", line).strip(" |") for line in "".join(pieces).splitlines())
    return "\n".join(filter(None, lines))


def _check_depth(html: str) -> None:
    depth = 0
    for closing, name in _TAG.findall(html.encode("utf-8", "replace")):
        if name.decode().lower() in _VOID:
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        if depth > MAX_DEPTH:
            raise TooDeepError(f"more than {MAX_DEPTH} nested elements")


def _walk(node: LexborNode, pieces: list[str]) -> None:
    for child in node.iter(include_text=True):
        name = child.tag or ""
        if name == "-text":
            pieces.append((child.text_content or "").replace("\n", " "))
            continue
        if name in _DROPPED or name.startswith("-") or _hidden(child):
            continue
        if name == "br":
            pieces.append("\n")
            continue
        block, cell = _BLOCK.match(name) is not None, name in {"td", "th"}
        pieces.append("" if cell else "\n" if block else "")
        pieces.append("- " if name == "li" else "")
        _walk(child, pieces)
        pieces.append(" | " if cell else "\n" if block else "")


def _hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    return "hidden" in attributes or bool(_HIDDEN.search(attributes.get("style") or ""))
