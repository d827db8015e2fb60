"""Escapes strings from charts and models for GitHub Flavored Markdown, without control or bidi characters, capped."""

from __future__ import annotations

import re
import unicodedata

# CommonMark escapes any ASCII punctuation with a backslash; these can open markup, HTML, links, tables or autolinks.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#+!|~&])")
_AUTOLINK = re.compile(r"(?i)\b(https?|ftp|www|mailto|javascript|data)([:.])")
_SPACES = re.compile(r"\s+")


def plain(text: str, limit: int = 200) -> str:
    """One line without control, format (bidi, zero-width) or unassigned characters, at most `limit` characters.

    >>> plain("Heart\\u202e failure\\n  now")
    'Heart failure now'
    """
    spaced = _SPACES.sub(" ", text)
    kept = "".join(c for c in spaced if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"})
    kept = kept.strip()
    return kept if len(kept) <= limit else kept[: limit - 1].rstrip() + "…"


def gfm(text: str, limit: int = 200) -> str:
    """`plain`, escaped so that a Markdown renderer shows exactly these characters and links nothing.

    >>> gfm("<b>*5*</b> www.evil.example")
    '\\\\<b\\\\>\\\\*5\\\\*\\\\</b\\\\> www\\\\.evil.example'
    """
    escaped = _MARKUP.sub(r"\\\1", plain(text, limit))
    # A bare address becomes a link in GFM unless its colon or dot is escaped too.
    return _AUTOLINK.sub(r"\1\\\2", escaped)
