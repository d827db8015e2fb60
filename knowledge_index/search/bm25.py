"""BM25 over a sparse matrix of precomputed weights, so that a query is a sum of a few rows.

Weights are those of Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009), eq. 3.15, with Lucene's
idf, log(1 + (N - df + .5) / (df + .5)), which is never negative.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from scipy import sparse

from knowledge_index.core.arrays import new_array, save_array
from knowledge_index.search.postings import Postings

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
# Longest first; the stem must keep three letters. Deliberately light: "mortality" and "mortal" stay distinct.
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
    """The index terms of a text, in order: lower case, without accents and stop words, stemmed.

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
        """An in-memory index; `write_bm25` writes the same to files."""
        postings = Postings(texts, terms)
        documents, weights = np.empty(len(postings), np.int32), np.empty(len(postings), np.float32)
        idf = _fill(postings, documents, weights)
        shape = (len(idf), len(postings.lengths))
        return cls(postings.vocabulary, idf, sparse.csr_array((weights, documents, postings.starts), shape=shape))

    def scores(self, query: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores and coverage of every document, each of shape (documents,).

        Coverage is the share, by idf, of the query's terms that occur in the document: 1.0 for all. Unknown terms count
        as the rarest, so that an unrelated query has low coverage.
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


def write_bm25(folder: Path, texts: Iterable[str]) -> int:
    """Writes the BM25 files of an index; returns the number of terms. Memory holds only the vocabulary."""
    postings = Postings(texts, terms, folder.parent)
    documents = new_array(folder, "bm25_documents", np.int32, len(postings))
    weights = new_array(folder, "bm25_weights", np.float32, len(postings))
    save_array(folder, "bm25_idf", _fill(postings, documents, weights))
    save_array(folder, "bm25_starts", postings.starts)
    (folder / "terms.json").write_bytes(orjson.dumps(list(postings.vocabulary)))
    return len(postings.vocabulary)


def _fill(postings: Postings, documents: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fills documents and weights; returns the idf of every term, shape (terms,)."""
    count, length = len(postings.lengths), postings.lengths.astype(np.float64)
    average = max(length.mean(), 1.0) if count else 1.0
    idf = np.log1p((count - postings.holding + 0.5) / (postings.holding + 0.5))
    norm = K1 * (1 - B + B * length / average)

    def weigh(
        term: NDArray[np.int64], document: NDArray[np.int64], frequency: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        weighed: NDArray[np.float64] = idf[term] * frequency * (K1 + 1) / (frequency + norm[document])
        return weighed

    postings.fill(documents, weights, weigh)
    postings.close()
    return idf.astype(np.float32)
