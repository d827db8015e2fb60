"""Converts CDA R2 documents (HL7 Clinical Document Architecture) to text with sections, tables and lists.

Document types and entities are refused before anything is expanded. The nullFlavor of a section is written into the
text: "no information" does not mean "none". Runs in the child process only.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from fhir_mapping.notes.formats.converted import (
    CELL,
    Converted,
    UnreadableError,
    finish,
    heading_mark,
    without_sentinels,
)

MAX_DEPTH = 200
_NAMESPACE = "{urn:hl7-org:v3}"
_XHTML = "{http://www.w3.org/1999/xhtml}html"
_LOINC = "2.16.840.1.113883.6.1"
# Displays of HL7 v3 NullFlavor (https://terminology.hl7.org/CodeSystem-v3-NullFlavor.html).
_NULL_FLAVOR = {
    "NI": "no information",
    "UNK": "unknown",
    "NASK": "not asked",
    "ASKU": "asked but unknown",
    "NAV": "temporarily unavailable",
    "NAVU": "not available",
    "MSK": "masked",
    "NA": "not applicable",
    "OTH": "other",
    "NINF": "negative infinity",
    "PINF": "positive infinity",
    "UNC": "unencoded",
}
_LINES = frozenset({"paragraph", "list", "table", "caption", "thead", "tbody", "tfoot", "footnote"})

Embedded = Callable[[str, bytes], Converted]


def cda_to_text(raw: bytes, embedded: Embedded) -> Converted:
    """Returns the narrative of a ClinicalDocument. `embedded(media_type, bytes)` converts the content of a nonXMLBody.

    Raises UnreadableError: `xml-invalid`, `xml-doctype` (any document type declaration), `xml-not-cda`,
    `too-deep`.
    """
    try:
        root = defusedxml.ElementTree.fromstring(raw, forbid_dtd=True)
    except DefusedXmlException:
        raise UnreadableError("xml-doctype") from None
    except (ParseError, ValueError, LookupError):
        raise UnreadableError("xml-invalid") from None
    if root.tag == _XHTML:
        return embedded("text/html", raw)
    if _name(root) != "ClinicalDocument":
        raise UnreadableError("xml-not-cda")
    unstructured = _child(_child(root, "component"), "nonXMLBody")
    if unstructured is not None:
        return _unstructured(unstructured, embedded)
    body = _child(_child(root, "component"), "structuredBody")
    return finish("".join(_sections(body, 1))) if body is not None else Converted("")


def _name(element: Element) -> str:
    tag = element.tag if isinstance(element.tag, str) else ""
    return tag.removeprefix(_NAMESPACE)


def _child(element: Element | None, name: str) -> Element | None:
    return None if element is None else next((child for child in element if _name(child) == name), None)


def _sections(parent: Element, level: int) -> Iterator[str]:
    """Yields sections in order, each followed by its subsections."""
    if level > MAX_DEPTH:
        raise UnreadableError("too-deep")
    for component in parent:
        section = _child(component, "section") if _name(component) == "component" else None
        if section is not None:
            yield from _section(section, level)


def _section(section: Element, level: int) -> Iterator[str]:
    code, text = _child(section, "code"), _child(section, "text")
    title = " ".join("".join(_inline(_child(section, "title"))).split())
    loinc = code.get("code") if code is not None and code.get("codeSystem") == _LOINC else None
    title = title or (code.get("displayName") or "" if code is not None else "")
    if title or loinc:
        yield "\n" + heading_mark(title or str(loinc), level, loinc) + "\n"
    yield "".join(f"[{display}]\n" for display in dict.fromkeys(_null_flavors(section, text)))
    if text is not None:
        yield "".join(_narrative(text, 0)) + "\n"
    yield from _sections(section, level + 1)


def _null_flavors(*elements: Element | None) -> Iterator[str]:
    for element in elements:
        flavor = element.get("nullFlavor") if element is not None else None
        if flavor:
            yield _NULL_FLAVOR.get(flavor, "no information")


def _inline(element: Element | None) -> Iterator[str]:
    """Yields the text of an element without markup."""
    if element is not None:
        yield from (without_sentinels(text) for text in element.itertext())


def _narrative(element: Element, depth: int) -> Iterator[str]:
    """Yields the text of CDA narrative: tables, lists, paragraphs; text marked as deleted is left out."""
    if depth > MAX_DEPTH:
        raise UnreadableError("too-deep")
    yield _normalised(element.text)
    for child in element:
        name = _name(child)
        if name == "br":
            yield "\n"
        elif name == "tr":
            yield "\n" + CELL.join(_cell(cell, depth) for cell in child if _name(cell) in {"td", "th"}) + "\n"
        elif name == "item":
            yield "\n- " + " ".join("".join(_narrative(child, depth + 1)).strip().split(" ")) + "\n"
        elif child.get("revised") != "delete" and name != "renderMultiMedia":
            line_break = "\n" if name in _LINES else ""
            yield line_break + "".join(_narrative(child, depth + 1)) + line_break
        yield _normalised(child.tail)


def _normalised(text: str | None) -> str:
    return re.sub(r"\s+", " ", without_sentinels(text)) if text else ""


def _cell(cell: Element, depth: int) -> str:
    return " ".join("".join(_narrative(cell, depth + 1)).split())


def _unstructured(body: Element, embedded: Embedded) -> Converted:
    text = _child(body, "text")
    if text is None:
        return Converted("")
    if _child(text, "reference") is not None and not (text.text or "").strip():
        raise UnreadableError("cda-body-elsewhere")
    media_type, content = text.get("mediaType") or "text/plain", "".join(text.itertext())
    if text.get("representation") != "B64":
        return embedded(media_type, content.encode("utf-8", "replace"))
    try:
        raw = binascii.a2b_base64("".join(content.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise UnreadableError("base64-invalid") from None
    return embedded(media_type, raw)
