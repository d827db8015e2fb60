"""BM25 over a sparse matrix whose cells already hold the weights, so that a query is a sum of a few rows.

Weights are those of Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009), eq. 3.15, with Lucene's
idf, log(1 + (N - df + .5) / (df + .5)), which is never negative.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

K1, B = 1.2, 0.75

_WORD = re.compile(r"[a-z0-9]+")
STOPWORDS = frozenset(
    _WORD.findall(
        "a about after all also among an and any are as at be been before between both but by can did do does "
        "during each for from further had has have how if in into is it its may more most no nor not of on or "
        "other our should so some such than that the their them then there these they this those to under was "
        "we were what when where whether which while who why will with would"
    )
)
# Longest first; what remains must keep three letters. Light on purpose: "mortality" and "mortal" stay apart.
_SUFFIXES = (
    ("ations", "ate"), ("ation", "ate"), ("ities", "ity"), ("ies", "y"), ("sses", "ss"), ("ing", ""), ("edly", ""),
    ("ed", ""), ("es", "e"), ("s", ""),
)  # fmt: skip


def stem(word: str) -> str:
    """A light English stem.

    >>> [stem(word) for word in ("readmissions", "hospitalized", "comorbidities", "sepsis", "glucose", "virus")]
    ['readmission', 'hospitaliz', 'comorbidity', 'sepsis', 'glucos', 'virus']
    """
    for suffix, replacement in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith(("ss", "us", "is")):
            word = word[: -len(suffix)] + replacement
            break
    return word.removesuffix("e") if len(word) > 4 else word


def terms(text: str) -> list[str]:
    """Index terms of a text, in order: lower case, accents folded, stop words left out, stemmed.

    >>> terms("Anémias in the elderly")
    ['anemia', 'elderly']
    """
    folded = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return [stem(word) for word in _WORD.findall(folded) if word not in STOPWORDS]


@dataclass(frozen=True, slots=True)
class Bm25:
    """`weights` has shape (terms, documents), float32, CSR; `idf` shape (terms,)."""

    vocabulary: dict[str, int]
    idf: NDArray[np.float32]
    weights: sparse.csr_array

    @classmethod
    def build(cls, texts: Iterable[str]) -> Bm25:
        vocabulary: dict[str, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        counts: list[int] = []
        lengths: list[int] = []
        for document, text in enumerate(texts):
            counted = Counter(terms(text))
            lengths.append(counted.total())
            for term, count in counted.items():
                rows.append(vocabulary.setdefault(term, len(vocabulary)))
                columns.append(document)
                counts.append(count)
        return cls._weighted(vocabulary, np.array(rows, np.int64), np.array(columns, np.int64), counts, lengths)

    @classmethod
    def _weighted(
        cls,
        vocabulary: dict[str, int],
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        counts: Sequence[int],
        lengths: Sequence[int],
    ) -> Bm25:
        documents = len(lengths)
        frequency = np.asarray(counts, np.float64)
        length = np.asarray(lengths, np.float64)
        average = max(length.mean(), 1.0) if documents else 1.0
        holding = np.bincount(rows, minlength=len(vocabulary)).astype(np.float64)
        idf = np.log1p((documents - holding + 0.5) / (holding + 0.5))
        norm = K1 * (1 - B + B * length[columns] / average)
        cells = idf[rows] * frequency * (K1 + 1) / (frequency + norm)
        matrix = sparse.csr_array((cells.astype(np.float32), (rows, columns)), shape=(len(vocabulary), documents))
        matrix.sort_indices()
        return cls(vocabulary, idf.astype(np.float32), matrix)

    def scores(self, query: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and coverage of every document, each of shape (documents,).

        Coverage is the share, by idf, of the query's terms that the document holds: 1.0 holds them all. Terms the
        index has never seen count as the rarest, so that a question about something else covers little.
        """
        documents = self.weights.shape[1]
        score, covered = np.zeros(documents, np.float32), np.zeros(documents, np.float32)
        unseen = float(np.log1p((documents + 0.5) / 0.5))
        asked = 0.0
        for term, count in Counter(terms(query)).items():
            row = self.vocabulary.get(term)
            if row is None:
                asked += unseen
                continue
            start, end = self.weights.indptr[row], self.weights.indptr[row + 1]
            held = self.weights.indices[start:end]
            score[held] += count * self.weights.data[start:end]
            covered[held] += self.idf[row]
            asked += float(self.idf[row])
        return score, covered / asked if asked else covered
