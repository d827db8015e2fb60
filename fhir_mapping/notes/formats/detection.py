"""Detects the format of a note's bytes and compares it with the declared content type."""

from __future__ import annotations

import re
from enum import StrEnum

from fhir_mapping.notes.formats.converted import UnreadableError


class Format(StrEnum):
    """A supported note format."""

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
_UNSPECIFIC = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/unknown"})
_UNSUPPORTED = (
    b"PK\x03\x04", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\x00", b"MM\x00*", b"\xd0\xcf\x11\xe0", b"\x1f\x8b",
    b"7z\xbc\xaf", b"\xfd7zXZ", b"\x7fELF",
)  # fmt: skip
_HTML_PAGE = re.compile(rb"(<\?xml[^>]*>\s*)?(<!--.{0,600}?-->\s*)*(<!doctype\s+html|<html\b)", re.DOTALL)
_HTML_TAG = re.compile(rb"<(html|head|body|div|p|span|table|h[1-6]|ul|ol|b|strong|br|font|pre|center)\b[^<]{0,300}>")
_XML = re.compile(rb"<\?xml\b|<!doctype\b|<([\w.-]+:)?clinicaldocument\b")


def format_of(content_type: str | None, raw: bytes) -> Format:
    """Returns the format of `raw`.

    Raises UnreadableError: `format-not-supported` for other formats, `type-disagrees` if the bytes are not of the
    declared type. Without a declared type, or with octet-stream, the format is detected from the bytes.

    >>> format_of("text/plain", b"%PDF-1.7")
    Traceback (most recent call last):
    fhir_mapping.notes.formats.converted.UnreadableError: type-disagrees
    >>> format_of(None, b"{\\\\rtf1 Tired}").value
    'text/rtf'
    """
    mime = (content_type or "").partition(";")[0].strip().lower()
    sniffed = _sniff(raw)
    if mime in _UNSPECIFIC:
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
    """Returns the format of a media type, or None if it is not supported."""
    if mime in _DECLARED:
        return _DECLARED[mime]
    if mime.startswith("text/"):
        return Format.PLAIN
    return Format.XML if mime.endswith("+xml") and not mime.startswith("image/") else None


def _sniff(raw: bytes) -> Format | str | None:
    """Returns a format with a clear signature, "other" for an unsupported one, None for text or an unclear one."""
    if raw.startswith(_UNSUPPORTED):
        return "other"
    head = _head(raw)
    if head.startswith(b"%pdf-"):
        return Format.PDF
    if head.startswith(b"{\\rtf"):
        return Format.RTF
    if _HTML_PAGE.match(head):
        return Format.HTML
    return Format.XML if _XML.match(head) else None


def _head(raw: bytes) -> bytes:
    """Returns the beginning in lower case, without byte order mark, UTF-16 zero bytes and leading white space."""
    return raw[:4096].lstrip(b"\xef\xbb\xbf\xff\xfe").replace(b"\x00", b"").lstrip().lower()


def _as_format(sniffed: Format | str | None, raw: bytes) -> Format:
    if isinstance(sniffed, Format):
        return sniffed
    return Format.HTML if _HTML_TAG.match(_head(raw)) else Format.PLAIN


def _agree(declared: Format, sniffed: Format | str | None, raw: bytes) -> bool:
    if declared is Format.HTML:
        return sniffed in {Format.HTML, None} or (sniffed is Format.XML and b"clinicaldocument" not in _head(raw))
    if declared is Format.XML:
        return sniffed in {Format.XML, Format.HTML} or (sniffed is None and _head(raw).startswith(b"<"))
    return sniffed is (None if declared is Format.PLAIN else declared)
