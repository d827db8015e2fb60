"""Converts RTF 1.9 to text: code pages, Unicode escapes, tables; without hidden or deleted text, headers and comments.

One pass without recursion, so that nesting depth is cheap. Runs in the child process only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

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
from fhir_mapping.notes.formats.plain import charset_of

MAX_DEPTH = 1_000
MAX_TOKENS = 300_000
"""A note of 150,000 Cyrillic characters has that many: an escape and a fallback each."""
_TOKEN = re.compile(
    r"\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?\d{1,9})?[ ]?|\\'(?P<byte>[0-9a-fA-F]{2})|\\(?P<symbol>[^a-zA-Z])"
    r"|(?P<brace>[{}])|[\r\n]+|(?P<text>[^\\{}\r\n]+)|\\",
)
_LINE_BREAKS = frozenset({"par", "sect", "page", "line", "softline"})
_SYMBOLS = {
    "tab": "\t", "emdash": "—", "endash": "–", "emspace": " ", "enspace": " ", "qmspace": " ", "bullet": "•",
    "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”",
}  # fmt: skip
# Groups that are not part of the running text.
_IGNORED_GROUP_WORDS = """
    annotation atnauthor atndate atnicn atnid atnref bkmkend bkmkstart colorschememapping colortbl datastore do filetbl
    fldinst footer footerf footerl footerr generator header headerf headerl headerr info latentstyles listoverridetable
    listtable nonshppict objdata object pict pntxta pntxtb revtbl rsidtbl rxe shpinst stylesheet tc themedata txe xe
    xmlnstbl
"""
_IGNORED_GROUPS = frozenset(_IGNORED_GROUP_WORDS.split())
_CODE_PAGES = {"ansi": "cp1252", "mac": "mac-roman", "pc": "cp437", "pca": "cp850"}
# \fcharset to code page; 0, 1 and 2 leave it to the document (RTF specification 1.9.1, "Font Table").
_CHARSETS = {
    77: "mac-roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "cp936", 136: "cp950", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip


def rtf_to_text(raw: bytes) -> Converted:
    """Returns the visible text of an RTF note; a short paragraph in bold is a heading.

    >>> rtf_to_text(rb"{\\rtf1\\ansi\\ansicpg1251{\\b Plan}\\par \\'c4\\u1072?{\\v hidden}}").text
    'Plan\\nДа'

    Raises UnreadableError `too-deep` past `MAX_DEPTH` open groups.
    """
    reader = _Reader()
    source, position = raw.decode("latin-1"), 0
    tokens = 0
    while position < len(source) and reader.length <= 2 * MAX_CHARACTERS and tokens < MAX_TOKENS:
        tokens += 1
        match = _TOKEN.match(source, position)
        position = len(source) if match is None else match.end() + reader.token(match)
        if reader.closed:
            break
    reader.paragraph()
    whole = reader.closed or position >= len(source)
    return finish(_join_surrogates("".join(reader.pieces)), whole=whole)


def _join_surrogates(text: str) -> str:
    """Returns text with surrogate pairs from two escapes as one character; lone ones are removed."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


@dataclass(frozen=True, slots=True)
class _Group:
    aside: bool = False
    font: int | None = None
    fallback: int = 1
    """The number of fallback characters after a Unicode escape (`uc`)."""
    bold: bool = False
    hidden: bool = False
    deleted: bool = False
    in_table: bool = False


@dataclass(slots=True)
class _Reader:
    group: _Group = field(default_factory=_Group)
    stack: list[_Group] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    length: int = 0
    line: list[str] = field(default_factory=list)
    all_bold: bool = True
    raw: bytearray = field(default_factory=bytearray)
    encoding: str = "cp1252"
    font_encodings: dict[int, str] = field(default_factory=dict)
    default_font: int = 0
    to_skip: int = 0
    starred: bool = False
    html_markup: bool = False
    closed: bool = False

    def token(self, match: re.Match[str]) -> int:
        """Processes one token; returns the number of characters to skip after it (binary data)."""
        kind = match.lastgroup
        starred, self.starred = self.starred, False
        if kind == "text":
            self.bytes(match["text"].encode("latin-1"))
        elif kind == "byte":
            self.bytes(bytes.fromhex(match["byte"]))
        elif kind == "brace":
            self.brace(match["brace"])
        elif kind == "symbol":
            self.symbol(match["symbol"])
        elif match["word"]:
            return self.word(match["word"], None if match["number"] is None else int(match["number"]), starred)
        return 0

    def bytes(self, data: bytes) -> None:
        skipped = min(self.to_skip, len(data))
        self.to_skip -= skipped
        if not self._ignored():
            self.raw += data[skipped:]
            self.length += len(data)

    def _ignored(self) -> bool:
        return self.group.aside or self.group.hidden or self.group.deleted or self.html_markup

    def brace(self, brace: str) -> None:
        self.flush()
        self.to_skip = 0
        if brace == "{":
            if len(self.stack) >= MAX_DEPTH:
                raise UnreadableError("too-deep")
            self.stack.append(self.group)
            return
        if self.stack:
            self.group = self.stack.pop()
        self.closed = not self.stack

    def symbol(self, symbol: str) -> None:
        if symbol == "*":
            self.starred = True
        elif symbol in "\r\n":
            self.word("par", None, False)
        elif symbol in "{}\\":
            self.bytes(symbol.encode())
        elif symbol in "~_":
            self.add(" " if symbol == "~" else "-")

    def word(self, word: str, number: int | None, starred: bool) -> int:
        self.flush()
        if word == "bin":
            return max(0, number or 0)
        if self.to_skip and word not in {"u", "uc"}:
            self.to_skip -= 1
            return 0
        if word in _IGNORED_GROUPS or (starred and word not in {"shptxt", "nesttableprops"}):
            self.group = replace(self.group, aside=True)
        elif word in _LINE_BREAKS:
            self.break_line(word)
        elif word in {"cell", "nestcell"}:
            self.add(CELL)
        elif word in {"row", "nestrow"}:
            self.end_row()
        elif word == "u" and number is not None:
            self.add(chr(number % 0x10000))
            self.to_skip = self.group.fallback
        elif word in _SYMBOLS:
            self.add(_SYMBOLS[word])
        else:
            self.state(word, number)
        return 0

    def state(self, word: str, number: int | None) -> None:
        """Processes control words that change the state of the group."""
        on = number != 0
        if word == "uc":
            self.group = replace(self.group, fallback=min(max(number or 0, 0), 8))
        elif word == "b":
            self.group = replace(self.group, bold=on)
        elif word == "v":
            self.group = replace(self.group, hidden=on)
        elif word == "deleted":
            self.group = replace(self.group, deleted=on)
        elif word == "plain":
            self.group = replace(self.group, bold=False, hidden=False, deleted=False)
        elif word == "intbl":
            self.group = replace(self.group, in_table=True)
        elif word == "pard":
            self.group = replace(self.group, in_table=False)
        elif word == "htmlrtf":
            self.html_markup = on
        elif word in _CODE_PAGES or word in {"ansicpg", "f", "fcharset", "deff", "fonttbl"}:
            self.characters(word, number or 0)

    def characters(self, word: str, number: int) -> None:
        """Processes control words that set the code page."""
        if word == "f":
            self.group = replace(self.group, font=number)
        elif word == "fcharset" and self.group.font is not None and number in _CHARSETS:
            self.font_encodings[self.group.font] = _CHARSETS[number]
        elif word == "deff":
            self.default_font = number
        elif word == "fonttbl":
            self.group = replace(self.group, aside=True)
        elif word == "ansicpg":
            self.encoding = charset_of("utf-8" if number == 65001 else f"cp{number}") or self.encoding
        else:
            self.encoding = _CODE_PAGES.get(word, self.encoding)

    def flush(self) -> None:
        if self.raw:
            font = self.default_font if self.group.font is None else self.group.font
            text = self.raw.decode(self.font_encodings.get(font, self.encoding), "replace")
            self.raw.clear()
            self.add(text)

    def add(self, text: str) -> None:
        if self._ignored():
            return
        self.flush()
        self.line.append(without_sentinels(text))
        self.length += len(text)
        self.all_bold = self.all_bold and (self.group.bold or not text.strip(" \t|"))

    def break_line(self, word: str) -> None:
        if self._ignored():
            return
        if self.group.in_table and word != "page":
            self.add(" ")
        else:
            self.paragraph()

    def end_row(self) -> None:
        """Ends a table row; the separator after the last cell is removed."""
        self.flush()
        line = "".join(self.line).removesuffix(CELL)
        self.line, self.all_bold = [line], False
        self.paragraph()

    def paragraph(self) -> None:
        self.flush()
        text = "".join(self.line)
        title = " ".join(text.split())
        heading = self.all_bold and 0 < len(title) <= MAX_TITLE and "|" not in title
        self.pieces.append((heading_mark(title, 7) if heading else text) + "\n")
        self.length += 1
        self.line, self.all_bold = [], True
