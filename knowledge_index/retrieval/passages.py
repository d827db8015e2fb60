"""Selects the passage of an abstract that best matches a query."""

from __future__ import annotations

import re

from knowledge_index.search.bm25 import terms

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(])")
_WHOLE = 700
_SENTENCES = 3


def best_passage(text: str, question: str) -> str:
    """The text itself up to 700 characters; of a longer one the three consecutive sentences that share most terms with
    the query, with ellipses for omissions.

    >>> best_passage("Short finding.", "anything")
    'Short finding.'
    """
    if len(text) <= _WHOLE:
        return text
    sentences = _SENTENCE_END.split(text)
    asked = set(terms(question))
    shared = [len(asked & set(terms(sentence))) for sentence in sentences]
    windows = range(max(1, len(sentences) - _SENTENCES + 1))
    best = max(windows, key=lambda start: (sum(shared[start : start + _SENTENCES]), -start))
    passage = " ".join(sentences[best : best + _SENTENCES])
    shortened = passage if len(passage) <= _WHOLE else passage[:_WHOLE].rsplit(" ", 1)[0] + " …"
    before = "… " if best else ""
    after = " …" if best + _SENTENCES < len(sentences) and not shortened.endswith("…") else ""
    return before + shortened + after
