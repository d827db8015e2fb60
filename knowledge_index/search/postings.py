"""Postings (term, document, count), collected in blocks on disk: memory holds one block and the vocabulary."""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.arrays import release_pages

BLOCK = 1 << 21
"""Postings per block: 25 MB, four times that while sorting."""

_POSTING = np.dtype([("term", "<i4"), ("document", "<i4"), ("count", "<i4")])
Weigh = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""(terms, documents, counts) -> weights, each of shape (postings,)."""


class Postings:
    """Postings of texts split by `terms`; the blocks are kept in an unnamed temporary file in `folder`.

    `vocabulary` numbers the terms by first occurrence; `lengths` has shape (documents,); `holding`, shape (terms,), is
    the document frequency. The cells of a term are contiguous, in document order, from `starts[term]`.
    """

    def __init__(
        self,
        texts: Iterable[str],
        terms: Callable[[str], Sequence[str]],
        folder: Path | None = None,
        block: int = BLOCK,
    ) -> None:
        self.vocabulary: dict[str, int] = {}
        self._stream: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open until `close`
        self._blocks: list[int] = []
        lengths = array("i")
        waiting = array("i")
        for document, text in enumerate(texts):
            counted = Counter(terms(text))
            lengths.append(counted.total())
            for term, count in counted.items():
                waiting.extend((self.vocabulary.setdefault(term, len(self.vocabulary)), document, count))
            if len(waiting) >= 3 * block:
                self._keep(waiting)
                waiting = array("i")
        self._keep(waiting)
        self.lengths: NDArray[np.int64] = np.array(lengths, np.int64)
        self.holding = np.zeros(len(self.vocabulary), np.int64)
        for cells in self._sorted():
            self.holding += np.bincount(cells["term"], minlength=len(self.holding))
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.holding)]).astype(np.int64)

    def __len__(self) -> int:
        return sum(self._blocks)

    def fill(self, documents: NDArray[np.int32], weights: NDArray[np.float32], weigh: Weigh) -> None:
        """Fills both arrays, in memory or memory-mapped, each of shape (postings,)."""
        following = self.starts[:-1].copy()
        for cells in self._sorted():
            term = cells["term"].astype(np.int64)
            present, first, many = np.unique(term, return_index=True, return_counts=True)
            at = np.repeat(following[present] - first, many) + np.arange(len(cells))
            documents[at] = cells["document"]
            weights[at] = weigh(term, cells["document"].astype(np.int64), cells["count"].astype(np.int64))
            following[present] += many
            release_pages(documents, weights)

    def close(self) -> None:
        self._stream.close()

    def _keep(self, waiting: array[int]) -> None:
        cells = np.array(waiting, np.int32).view(_POSTING)
        if len(cells):
            self._stream.write(cells[np.argsort(cells["term"], kind="stable")].tobytes())
            self._blocks.append(len(cells))

    def _sorted(self) -> Iterator[NDArray[Any]]:
        self._stream.seek(0)
        for count in self._blocks:
            yield np.frombuffer(self._stream.read(count * _POSTING.itemsize), _POSTING)
