"""A text with its white space collapsed, its sentences, and the places of both in the original."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right

# A line that continues in lower case is the same sentence; `Dr. Hill`, `vs. PE`, `Z. n. TIA` do not end one.
_BORDER = re.compile(
    r"[.;!?:\n](?:(?<=[.;!])(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bvs\.)"
    r"(?<!\bZ\.)(?<!\bZ\. n\.)(?<!\bV\.)(?<!\bV\. a\.)(?=\s|\Z)|(?<=\?)(?=\s)"
    r"|(?<=:)[ \t]*\n|(?<=\n)(?:\s*\n|(?=\s*(?:[-*•]|\d+[.)]|[A-Z]))))"
)
_BLANKS = re.compile(r"\s{2,}|[^\S ]")


class PlainText:
    """PlainText(text): one pass over the text. Offsets named `at` are into `words`, the collapsed text.

    Each run of white space is one blank, or one line break where a sentence ends there: no pattern that allows a blank
    matches across the end of a sentence.
    """

    def __init__(self, text: str) -> None:
        borders = [(match.start(), match.end()) for match in _BORDER.finditer(text)]
        ends = [end for _, end in borders]
        pieces: list[str] = []
        self._run_ends: list[int] = []
        self._removed: list[int] = []
        done = removed = 0
        for run in _BLANKS.finditer(text):
            first = bisect_left(ends, run.start())
            inside = (first < len(ends) and ends[first] <= run.end()) or (
                first + 1 < len(ends) and ends[first + 1] <= run.end()
            )
            pieces += (text[done : run.start()], "\n" if inside else " ")
            removed += run.end() - run.start() - 1
            done = run.end()
            self._run_ends.append(done)
            self._removed.append(removed)
        self.words = "".join((*pieces, text[done:]))
        self._starts = [self.at(start) for start, _ in borders]
        self._ends = [self.at(end) for _, end in borders]

    def at(self, position: int) -> int:
        """Returns the place in `words` of a position in the text."""
        before = bisect_right(self._run_ends, position) - 1
        return position - self._removed[before] if before >= 0 else position

    def sentence_start(self, at: int) -> int:
        before = bisect_right(self._ends, at) - 1
        return self._ends[before] if before >= 0 else 0

    def sentence_end(self, at: int) -> int:
        after = bisect_left(self._starts, at)
        return self._starts[after] if after < len(self._starts) else len(self.words)
