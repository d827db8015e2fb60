"""Converts HTML to text without script, style, deleted and hidden elements; blocks, lists and tables stay separated.

The nesting depth is checked before parsing: the parser takes quadratic time in depth, minutes for a megabyte of nested
`<div>`. Runs in the child process only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from fhir_mapping.notes.formats.converted import (
    CELL,
    MAX_CHARACTERS,
    MAX_TITLE,
    Converted,
    UnreadableError,
    finish,
    heading_mark,
    without_sentinels,
)

MAX_DEPTH = 200
MAX_ELEMENTS = 50_000
"""A note of 200,000 characters, each word in a cell of its own, has some 40,000."""
MAX_OPTIONS = 3_000
_MAX_HIDING_RULES = 50
# Comments and scripts match as a whole, also unclosed ones, so that one pass is enough.
_TAG = re.compile(
    rb"<!--(?>.*?(?:-->|\Z))|<(script|style)\b(?>.*?(?:</\1|\Z))|<(/?)([a-zA-Z][a-zA-Z0-9]*)", re.DOTALL | re.IGNORECASE
)
# Void elements, and those with an optional end tag: an unclosed <p> or <li> ends where the next starts.
_NO_DEPTH_TAGS = b"""
    area base body br caption col colgroup dd dt embed head hr html img input li link meta optgroup option p rp rt
    source tbody td tfoot th thead tr track wbr
"""
_NO_DEPTH = frozenset(_NO_DEPTH_TAGS.split())
_DROPPED_TAGS = """
    audio button canvas datalist del head iframe map math noscript object s script strike style svg template title video
"""
_DROPPED = frozenset(_DROPPED_TAGS.split())
_BLOCK = re.compile(
    r"(address|article|aside|blockquote|body|caption|center|d[dlt]|details|div|dialog|fieldset|figcaption|figure"
    r"|foot(er)?|form|h[1-6r]|header|hgroup|legend|li|main|menu|nav|[ou]l|p|pre|section|summary|table"
    r"|t(body|foot|head|r))\Z"
)
_BOLD = frozenset({"b", "strong", "u"})
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(hidden|collapse)|font-size\s*:\s*0*[01](\.\d+)?(px|pt|em|%)?\s*(;|!|\Z)"
    r"|opacity\s*:\s*0*(\.0+)?\s*(;|!|\Z)|(left|top|text-indent)\s*:\s*-\d{3,}"
    r"|clip\s*:\s*rect\(\s*0|mso-hide\s*:\s*all|(?<!-)color\s*:\s*(transparent|white|#fff\b|#ffffff\b)",
    re.IGNORECASE,
)
_COLOURED = re.compile(r"background(-color)?\s*:\s*(?!white|#fff|transparent|none)", re.IGNORECASE)
_BOLD_STYLE = re.compile(r"font-weight\s*:\s*(bold|[6-9]00)", re.IGNORECASE)
_SPACES = re.compile(r"\s+")
_RULE = re.compile(r"([^{}]{1,200})\{([^{}]{0,500})\}")


def html_to_text(html: str) -> Converted:
    """Returns the visible text of an HTML note and its headings: h1 to h6, and bold text that is a line or ends in `:`.

    >>> html_to_text("<h2>Plan</h2><table><tr><td>Na</td><td>131</td></tr></table><script>x()</script>").text
    'Plan\\nNa | 131'

    Raises UnreadableError `too-deep` past `MAX_DEPTH` open elements.
    """
    bounded, cut = _bounded(html)
    tree = LexborHTMLParser(bounded)
    if tree.body is None:
        return Converted("")
    size = _Size(cut=cut)
    walk = _Walk(frozenset(_hidden_by_rules(tree)), size)
    walk.children(tree.body, 0)
    return finish("".join(walk.pieces), whole=not size.cut)


def _bounded(html: str) -> tuple[str, bool]:
    """Returns the part of a document that is parsed, and whether it is cut: after MAX_ELEMENTS elements, or within a
    select of more than MAX_OPTIONS options, for which the parser takes quadratic time.

    Raises UnreadableError `too-deep`.
    """
    depth = elements = options = 0
    raw = html.encode("utf-8", "replace")
    for match in _TAG.finditer(raw):
        if match[3] is None:
            continue
        name = match[3].lower()
        elements += not match[2]
        options = 0 if name == b"select" else options + (name == b"option")
        if elements > MAX_ELEMENTS or options > MAX_OPTIONS:
            return raw[: match.start()].decode("utf-8", "ignore"), True
        if name in _NO_DEPTH:
            continue
        depth = max(0, depth - 1) if match[2] else depth + 1
        if depth > MAX_DEPTH:
            raise UnreadableError("too-deep")
    return html, False


def _hidden_by_rules(tree: LexborHTMLParser) -> list[int]:
    """Returns the ids of elements hidden by the document's style sheet."""
    rules = [rule for style in tree.css("style") for rule in _RULE.findall(style.text() or "")]
    hiding = [selector.strip() for selector, body in rules if _is_hidden(body)][:_MAX_HIDING_RULES]
    found: list[int] = []
    for selector in hiding:
        try:
            found += [node.mem_id for node in tree.css(selector)]
        except (ValueError, RuntimeError):  # a selector the engine does not know
            continue
    return found


def _is_hidden(style: str) -> bool:
    found = _HIDDEN.search(style)
    return found is not None and not ("color" in found[0].lower() and _COLOURED.search(style))


@dataclass(slots=True)
class _Size:
    """Characters of text seen so far; the walk stops at twice the limit. `cut` says that something was left out."""

    length: int = 0
    cut: bool = False

    def spent(self) -> bool:
        full = self.length > 2 * MAX_CHARACTERS
        self.cut = self.cut or full
        return full


@dataclass(slots=True)
class _Walk:
    hidden: frozenset[int]
    size: _Size
    pieces: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.pieces.append(text)

    def children(self, node: LexborNode, depth: int) -> None:
        if depth > 3 * MAX_DEPTH:
            raise UnreadableError("too-deep")
        for child in node.iter(include_text=True):
            if self.size.spent():
                return
            self.element(child, child.tag or "", depth + 1)

    def element(self, node: LexborNode, name: str, depth: int) -> None:
        if name == "-text":
            self.text(node)
        elif name.startswith("-") or name in _DROPPED or self._hides(node):
            return
        elif name == "br":
            self.add("\n")
        elif name == "tr":
            self.row(node, depth)
        elif len(name) == 2 and name[0] == "h" and name[1] in "123456":
            self.heading(node, int(name[1]), depth)
        elif name in _BOLD or _BOLD_STYLE.search(_style(node)):
            self.bold(node, name, depth)
        elif name in {"input", "select"}:
            self.add(self.chosen(node) if name == "select" else _field_value(node))
            self.size.length += len(self.pieces[-1])
        else:
            self.block(node, name, depth)

    def text(self, node: LexborNode) -> None:
        text = without_sentinels(node.text_content or "")
        parent = node.parent
        kept = parent is not None and parent.tag in {"pre", "textarea"}
        self.add(text if kept else _SPACES.sub(" ", text))
        self.size.length += len(self.pieces[-1])

    def block(self, node: LexborNode, name: str, depth: int) -> None:
        line_break = "\n" if _BLOCK.match(name) else ""
        self.add(line_break + ("- " if name == "li" else ""))
        self.children(node, depth)
        self.add(line_break)

    def text_of(self, node: LexborNode, depth: int) -> str:
        """Returns the marked text of one element."""
        inner = _Walk(self.hidden, self.size)
        inner.children(node, depth)
        return "".join(inner.pieces)

    def heading(self, node: LexborNode, level: int, depth: int) -> None:
        self.add("\n" + _marked(self.text_of(node, depth), level) + "\n")

    def bold(self, node: LexborNode, name: str, depth: int) -> None:
        """Adds bold text; at the start of a line it may be a heading, which `finish` decides."""
        inner = self.text_of(node, depth)
        line_break = "\n" if _BLOCK.match(name) else ""
        starts_line = bool(line_break) or not self.pieces or "".join(self.pieces[-3:]).rstrip(" ").endswith("\n")
        self.add(line_break + (_marked(inner, 7) if starts_line and "\n" not in inner.strip() else inner) + line_break)

    def row(self, node: LexborNode, depth: int) -> None:
        """Adds the cells of a row with separators; a cell of a layout table keeps its lines."""
        cells = [cell for cell in node.iter() if cell.tag in {"td", "th"} and not self._hides(cell)]
        self.add("\n")
        for number, cell in enumerate(cells):
            inner = self.text_of(cell, depth)
            flat = " ".join(_plain(inner).split())
            layout = (
                len(cells) == 1
                or len(flat) > 300
                or ("\n" in inner.strip("\n") and cell.css_first("table") is not None)
            )
            self.add((CELL if number else "") + (inner if layout else flat))
        self.add("\n")

    def chosen(self, node: LexborNode) -> str:
        """Returns the selected option of a select, also within an optgroup."""
        for child in node.iter():
            if child.tag == "option" and "selected" in child.attributes:
                return f" {without_sentinels(child.text() or '').strip()} "
            if child.tag == "optgroup" and (found := self.chosen(child)):
                return found
        return ""

    def _hides(self, node: LexborNode) -> bool:
        return node.mem_id in self.hidden or "hidden" in node.attributes or _is_hidden(_style(node))


def _style(node: LexborNode) -> str:
    return node.attributes.get("style") or ""


def _marked(inner: str, level: int) -> str:
    title = " ".join(_plain(inner).split())
    return heading_mark(title, level) if 0 < len(title) <= MAX_TITLE else inner


def _plain(marked: str) -> str:
    """Returns marked text without the heading marks and their codes."""
    return without_sentinels(re.sub("\x01\\d[^\x03]*\x03", "", marked))


def _field_value(node: LexborNode) -> str:
    """Returns the value of an input: ticked boxes are findings."""
    kind = (node.attributes.get("type") or "text").lower()
    if kind in {"checkbox", "radio"}:
        return "[x] " if "checked" in node.attributes else "[ ] "
    return without_sentinels(node.attributes.get("value") or "") if kind in {"text", "number", "date"} else ""
