"""Parses the elements of PubMed's XML, and returns their text with powers and formulas kept readable."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_MATHML = "{http://www.w3.org/1998/Math/MathML}"
_POWER = re.compile(r"[-+\u2212\u2013]?[0-9]+(?:[.,][0-9]+)?\Z|[nxk]\Z")
_PLAIN = re.compile(r"[\w.]+\Z")


def parsed(fragment: bytes) -> ElementTree.Element:
    """Returns the element of one record. A record is cut out of its file: `mml` is bound where the file did so.

    Raises ElementTree.ParseError for malformed XML.
    """
    if b"<mml:" in fragment and b"xmlns:mml" not in fragment:
        name_ends = re.search(rb"[\s>]", fragment)
        at = len(fragment) if name_ends is None else name_ends.start()
        fragment = fragment[:at] + b' xmlns:mml="' + _MATHML[1:-1].encode() + b'"' + fragment[at:]
    return ElementTree.fromstring(fragment)  # noqa: S314 - a fragment has no DTD, so no entities are expanded


def content(element: ElementTree.Element | None) -> str:
    """Returns the text of an element on one line, empty without one; a power is written with `^`.

    >>> content(ElementTree.fromstring("<t>10<sup>5</sup> CFU, Ca<sup>2+</sup>, <sup>18</sup>F, CO<sub>2</sub></t>"))
    '10^5 CFU, Ca2+, 18F, CO2'
    """
    return "" if element is None else " ".join(_text(element).split())


def _text(element: ElementTree.Element) -> str:
    text = element.text or ""
    for child in element:
        text += _formula(child) if child.tag.startswith(_MATHML) else _marked(child, text)
        text += child.tail or ""
    return text


def _marked(child: ElementTree.Element, before: str) -> str:
    inner = _text(child)
    follows = bool(before) and (before[-1].isalnum() or before[-1] in ")]")
    return f"^{inner.strip()}" if child.tag == "sup" and follows and _POWER.match(inner.strip()) else inner


def _formula(element: ElementTree.Element) -> str:
    """Returns MathML in one line of text: powers, fractions and roots in their usual notation."""
    name = element.tag.removeprefix(_MATHML)
    if name in {"annotation", "annotation-xml"}:
        return ""
    parts = [_formula(child) for child in element]
    if name in {"msup", "mover"} and len(parts) == 2:
        return f"{parts[0]}^{_closed(parts[1])}"
    if name == "msubsup" and len(parts) == 3:
        return f"{parts[0]}{parts[1]}^{_closed(parts[2])}"
    if name == "mfrac" and len(parts) == 2:
        return f"{_closed(parts[0])}/{_closed(parts[1])}"
    if name == "msqrt":
        return f"sqrt({''.join(parts)})"
    return (element.text or "").strip() + "".join(parts)


def _closed(part: str) -> str:
    return part if _PLAIN.match(part.lstrip("-\u2212+")) else f"({part})"
