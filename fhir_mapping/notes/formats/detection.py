"""What a note's bytes are, and whether that agrees with what was declared."""

from __future__ import annotations

import re
from enum import StrEnum

from fhir_mapping.notes.formats.converted import UnreadableError


class Format(StrEnum):
    PLAIN = "text/plain"
    HTML = "text/html"
    RTF = "text/rtf"
    XML = "application/xml"
    PDF = "application/pdf"


_DECLARED = {
    "text/html": Format.HTML,
    "application/xhtml+xml": Format.HTML,
    "text/rtf": Format.RTF,
    "application/rtf": Format.RTF,
    "application/x-rtf": Format.RTF,
    "text/richtext": Format.RTF,
    "text/xml": Format.XML,
    "application/xml": Format.XML,
    "application/pdf": Format.PDF,
    "application/x-pdf": Format.PDF,
}
_UNSAID = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/unknown"})
_OTHERS = (
    b"PK\x03\x04", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\x00", b"MM\x00*", b"\xd0\xcf\x11\xe0", b"\x1f\x8b",
    b"7z\xbc\xaf", b"\xfd7zXZ", b"\x7fELF",
)  # fmt: skip
_PAGE = re.compile(rb"(<\?xml[^>]*>\s*)?(<!--.{0,600}?-->\s*)*(<!doctype\s+html|<html\b)", re.DOTALL)
_FRAGMENT = re.compile(rb"<(html|head|body|div|p|span|table|h[1-6]|ul|ol|b|strong|br|font|pre|center)\b[^<]{0,300}>")
_XML = re.compile(rb"<\?xml\b|<!doctype\b|<([\w.-]+:)?clinicaldocument\b")


def format_of(content_type: str | None, raw: bytes) -> Format:
    """The format to read `raw` in.

    Raises UnreadableError: `format-not-supported` for what we do not read, `type-disagrees` where the bytes are
    something other than declared. A type that is absent or says nothing (octet-stream) is sniffed.

    >>> format_of("text/plain", b"%PDF-1.7")
    Traceback (most recent call last):
    fhir_mapping.notes.formats.converted.UnreadableError: type-disagrees
    >>> format_of(None, b"{\\\\rtf1 Tired}").value
    'text/rtf'
    """
    mime = (content_type or "").partition(";")[0].strip().lower()
    sniffed = _sniff(raw)
    if mime in _UNSAID:
        if sniffed == "other":
            raise UnreadableError("format-not-supported")
        return _as_format(sniffed, raw)
    declared = declared_format(mime)
    if declared is None:
        raise UnreadableError("format-not-supported")
    if not _agree(declared, sniffed, raw):
        raise UnreadableError("type-disagrees")
    return Format.HTML if sniffed is Format.HTML else declared


def declared_format(mime: str) -> Format | None:
    """The format a media type names; None where it is none we read."""
    if mime in _DECLARED:
        return _DECLARED[mime]
    if mime.startswith("text/"):
        return Format.PLAIN
    return Format.XML if mime.endswith("+xml") and not mime.startswith("image/") else None


def _sniff(raw: bytes) -> Format | str | None:
    """A format whose signature is beyond doubt, "other" for one we do not read, None for text or nothing certain."""
    if raw.startswith(_OTHERS):
        return "other"
    head = _head(raw)
    if head.startswith(b"%pdf-"):
        return Format.PDF
    if head.startswith(b"{\\rtf"):
        return Format.RTF
    if _PAGE.match(head):
        return Format.HTML
    return Format.XML if _XML.match(head) else None


def _head(raw: bytes) -> bytes:
    """The beginning in lower case, without byte order marks, UTF-16's zeros and white space before it."""
    return raw[:4096].lstrip(b"\xef\xbb\xbf\xff\xfe").replace(b"\x00", b"").lstrip().lower()


def _as_format(sniffed: Format | str | None, raw: bytes) -> Format:
    if isinstance(sniffed, Format):
        return sniffed
    return Format.HTML if _FRAGMENT.match(_head(raw)) else Format.PLAIN


def _agree(declared: Format, sniffed: Format | str | None, raw: bytes) -> bool:
    if declared is Format.HTML:
        return sniffed in {Format.HTML, None} or (sniffed is Format.XML and b"clinicaldocument" not in _head(raw))
    if declared is Format.XML:
        return sniffed in {Format.XML, Format.HTML} or (sniffed is None and _head(raw).startswith(b"<"))
    return sniffed is (None if declared is Format.PLAIN else declared)
