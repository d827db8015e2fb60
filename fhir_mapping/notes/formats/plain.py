"""Decodes plain text and removes invisible characters.

Removed are control characters except newline and tab, lone surrogates, bidirectional controls, zero-width characters,
tag characters and variation selectors: they can reorder, split or hide text. Visible characters are unchanged.
"""

from __future__ import annotations

import codecs
import re

from fhir_mapping.notes.formats.converted import UnreadableError

_BREAKS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_ASCII_CONTROLS = bytes(code for code in (*range(32), 127) if code not in b"\n\t")
# Python's other codecs are not safe for notes: punycode and idna take quadratic time, unicode_escape evaluates escapes.
_ENCODINGS = re.compile(
    r"(utf-(8|16|32)(-[lb]e)?(-sig)?|ascii|iso8859-\d+|cp\d{3,5}|koi8-[rut]|mac-(roman|cyrillic|greek|latin2|turkish)"
    r"|shift_jis|euc_(jp|kr)|gb2312|gbk|gb18030|big5|tis-620|johab)\Z"
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAX_CONTROL_SHARE = 0.05
_LINE_ENDS = str.maketrans(dict.fromkeys("\r\v\f\x85\u2028\u2029", "\n"))


def decode(raw: bytes, charset: str | None = None) -> str:
    """Returns the cleaned text of a plain text note.

    Tried in order: a byte order mark, the declared charset, UTF-8, windows-1252. The last is also used for iso-8859-1
    and us-ascii, as in browsers (https://encoding.spec.whatwg.org/#names-and-labels).

    >>> decode("Müde".encode("utf-16-le")), decode(b"caf\\xe9", "iso-8859-1")
    ('Müde', 'café')

    Raises UnreadableError `not-text` for binary data.
    """
    if raw.isascii() and b"\x00" not in raw and charset_of(charset) in _SAME_AS_ASCII:
        text = raw.decode("ascii")
        return text.strip("\n") if len(raw.translate(None, _ASCII_CONTROLS)) == len(raw) else _cleaned_text(text)
    return _cleaned_text(_characters(raw, charset))


def decode_in_place(raw: bytes) -> str:
    """Returns the text of a plain text file with a blank in place of each invisible character, so that offsets into it
    are offsets into the file's text.

    >>> decode_in_place(b"\\nno pain and no fever\\r\\nrest\\x07")
    '\\nno pain and no fever \\nrest '

    Raises UnreadableError `not-text` for binary data.
    """
    text = _characters(raw, None)
    if _control_count(text) > len(text) * _MAX_CONTROL_SHARE:
        raise UnreadableError("not-text")
    lines = text.replace("\r\n", " \n").translate(_LINE_ENDS)
    return _INVISIBLE.sub(" ", lines)


def clean(text: str) -> str:
    """Returns text without invisible characters; every kind of line end becomes a newline.

    >>> clean("no\\u202e pain\\r\\nrest")
    'no pain\\nrest'
    """
    return _INVISIBLE.sub("", _BREAKS.sub("\n", text))


def _cleaned_text(text: str) -> str:
    cleaned = clean(text).strip("\n")
    if len(cleaned) < len(text) * (1 - _MAX_CONTROL_SHARE) and _control_count(text) > len(text) * _MAX_CONTROL_SHARE:
        raise UnreadableError("not-text")
    return cleaned


def _control_count(text: str) -> int:
    return sum(character < " " and character not in "\n\r\t\f\v" for character in text)


def charset_of(declared: str | None) -> str | None:
    """Returns Python's name of a declared charset, or None if it is not supported.

    >>> charset_of("ISO-8859-1"), charset_of("windows-1251"), charset_of("punycode")
    ('cp1252', 'cp1251', None)
    """
    if not declared or len(declared) > 40:
        return None
    try:
        name = codecs.lookup(declared).name
    except (LookupError, ValueError):
        return None
    return "cp1252" if name in {"iso8859-1", "ascii"} else name if _ENCODINGS.match(name) else None


_SAME_AS_ASCII = frozenset({None, "utf-8", "cp1252", "cp1250", "cp1251", "iso8859-15"})


def _characters(raw: bytes, declared: str | None) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            return raw.decode(encoding, "replace")
    charset = charset_of(declared)
    wide = _wide_encoding(raw, charset)
    if wide is not None:
        return raw.decode(wide, "replace")
    for encoding in filter(None, (charset, "utf-8")):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    if b"\x00" in raw:
        raise UnreadableError("not-text")
    return raw.decode("cp1252", "replace")


def _wide_encoding(raw: bytes, charset: str | None) -> str | None:
    """Returns the UTF-16 or UTF-32 encoding of bytes without byte order mark, or None; zero bytes identify UTF-16."""
    if charset in {"utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}:
        return charset
    head = raw[:2000]
    low, high = head[::2].count(0), head[1::2].count(0)
    few, many = sorted((low, high))
    if charset == "utf-16" or (many > len(head) // 5 and few * 10 < many):
        return "utf-16-le" if high >= low else "utf-16-be"
    return None
