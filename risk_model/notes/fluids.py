"""The stretches of a note that are about another specimen than blood: `UA: pH 7.0, glucose 1000`, `CSF: WBC 410`."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from fhir_mapping.terminology import note_phrases

_MOST = 400
"""Characters that one heading reaches at most."""
# A stretch ends with its sentence, at an empty line, at a line with a heading of its own, and where blood is named.
_END = re.compile(
    r"[.;!?](?=\s)|\n[ \t]*\n|\n(?=[ \t]*[A-Z#*-])"
    r"|\b(?:serum|plasma|blood|abg|vbg|cbc|bmp|cmp|chem(?:istry|[- ]?[7-9]|[- ]?10)?|lytes|labs?|arterial|venous)\b",
    re.I,
)
_TABLE_END = re.compile(
    r"\n[ \t]*\n|\n[ \t]*[A-Z][\w/ -]{0,30}:[ \t]*\n|\b(?:serum|plasma|blood|cbc|bmp|cmp|labs)\b", re.I
)
_LINES = re.compile(r"[ \t]*[:=-]?[ \t]*\n")
_UNREMARKABLE = re.compile(
    r"\W{0,3}(?:was |is )?(?:neg(?:ative)?|clean|clear|unremarkable|normal|wnl|bland|pending|sent|pos(?:itive)?)\b",
    re.I,
)


@dataclass(frozen=True, slots=True)
class OtherFluids:
    """The stretches in order, and the concepts whose values there are the fluid's own."""

    starts: Sequence[int]
    ends: Sequence[int]
    concepts: Sequence[frozenset[str]]

    def hold(self, concept: str, position: int) -> bool:
        """Whether a value of this concept at `position` is of another fluid than blood."""
        at = bisect_right(self.starts, position) - 1
        return at >= 0 and position < self.ends[at] and concept in self.concepts[at]


def other_fluids(text: str) -> OtherFluids:
    """Returns the stretches of a text about other fluids, found in one pass."""
    starts, ends, concepts = [], [], []
    for match in _headings().finditer(text):
        if _UNREMARKABLE.match(text, match.end()):
            continue
        below = _LINES.match(text, match.end())
        begin = match.end() if below is None else below.end()
        end = (
            _END.search(text, begin, begin + _MOST) if below is None else _TABLE_END.search(text, begin, begin + _MOST)
        )
        starts.append(match.start())
        ends.append(min(len(text), begin + _MOST) if end is None else end.start())
        concepts.append(frozenset(note_phrases().fluids[str(match.lastgroup)].concepts))
    return OtherFluids(starts, ends, concepts)


@cache
def _headings() -> re.Pattern[str]:
    named = (f"(?P<{name}>{'|'.join(fluid.words)})" for name, fluid in note_phrases().fluids.items())
    return re.compile(rf"(?<![A-Za-z])(?:{'|'.join(named)})(?![A-Za-z])", re.I)
