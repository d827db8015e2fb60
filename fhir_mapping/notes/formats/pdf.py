"""Converts PDF to text with PDFium. Runs in the child process only."""

from __future__ import annotations

import re

import pypdfium2  # type: ignore[import-untyped]

from fhir_mapping.notes.formats.converted import MAX_CHARACTERS, Converted, UnreadableError, finish, without_sentinels

MAX_PAGES = 300
# PDFium marks a word hyphenated at the end of a line with these.
_HYPHENATED = re.compile("[\x02\ufffe](\r?\n)?")


def pdf_to_text(raw: bytes) -> Converted:
    """Returns the text of every page.

    Raises UnreadableError: `pdf-encrypted` (it needs a password), `pdf-damaged`, `pdf-without-text` (scanned pages).
    A document with text on only some pages is read, with the warning `pdf-pages-without-text`.
    """
    try:
        document = pypdfium2.PdfDocument(raw)
    except pypdfium2.PdfiumError as error:
        raise UnreadableError("pdf-encrypted" if "assword" in str(error) else "pdf-damaged") from None
    with document:
        pages, warning = _pages(document)
    if not any(pages):
        raise UnreadableError("pdf-without-text")
    found = finish("\n".join(pages))
    warning = warning or ("pdf-pages-without-text" if not all(pages) else None)
    return Converted(found.text, found.headings, found.warning or warning)


def _pages(document: pypdfium2.PdfDocument) -> tuple[list[str], str | None]:
    pages: list[str] = []
    length = 0
    for number in range(len(document)):
        if number == MAX_PAGES or length > MAX_CHARACTERS:
            return pages, "text-cut"
        pages.append(_page(document, number))
        length += len(pages[-1])
    return pages, None


def _page(document: pypdfium2.PdfDocument, number: int) -> str:
    """Returns the visible text of a page; text placed outside it is ignored."""
    try:
        text = document[number].get_textpage().get_text_bounded()
    except pypdfium2.PdfiumError:
        return ""
    return without_sentinels(_HYPHENATED.sub("", text)).replace("\r\n", "\n").replace("\r", "\n").strip()
