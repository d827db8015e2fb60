"""Codes and names beyond `concepts.json`: further MeSH diseases and drugs that appear as codes in charts.

Three sorted tables, built by `python -m tools.derive_mesh_names` from the sources in `SOURCES.md`:
descriptors (id, name, tree numbers), ICD codes with the descriptors named in their official descriptions, and names of
diseases and drugs. They are used for codes and their displays only; notes are linked with the vocabulary and the
index's own names. A table is one block of bytes with binary search: memory holds the bytes, not a hundred thousand
strings.
"""

from __future__ import annotations

import gzip
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from knowledge_index.core.values import Concept

_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?")
_LONGEST = 8
"""Words of the longest name."""
DRUGS = ("D",)
DISEASES = ("C", "F")
ALL = ("",)


class NameTable(Sequence[bytes]):
    """Rows of a compiled table, sorted, `key<tab>value`.

    >>> table = NameTable(b"anemia\\tD000740\\ngout\\tD006073\\n")
    >>> table.get("gout"), table.get("gou"), len(table)
    ('D006073', None, 2)
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n"))
        self._starts: NDArray[np.uint32] = np.concatenate([[0], ends + 1]).astype(np.uint32)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> bytes:  # type: ignore[override]
        """The key of a row."""
        return self._row(row).partition(b"\t")[0]

    def get(self, key: str) -> str | None:
        """The value of a key."""
        wanted = key.encode()
        row = bisect_left(self, wanted)
        if row == len(self) or self[row] != wanted:
            return None
        return self._row(row).partition(b"\t")[2].decode()

    def _row(self, row: int) -> bytes:
        return self._content[self._starts[row] : self._starts[row + 1] - 1]


@dataclass(frozen=True, slots=True)
class AdditionalNames:
    """AdditionalNames(descriptors, codes, names).of_code("icd10cm", "K5730") -> concepts"""

    descriptors: NameTable
    codes: NameTable
    names: NameTable

    def concept(self, ui: str) -> Concept | None:
        """The concept of a descriptor id, without synonyms."""
        row = self.descriptors.get(ui)
        if row is None:
            return None
        name, _, numbers = row.partition("\t")
        return Concept(ui, name, tuple(filter(None, numbers.split(" "))))

    def of_code(self, system: str, code: str) -> list[Concept]:
        """Concepts of an ICD code without its dot, or of its nearest parent category with any."""
        for length in range(len(code), 2, -1):
            if (found := self.codes.get(f"{system}:{code[:length]}")) is not None:
                return self._concepts(found, ALL)
        return []

    def mentions(self, text: str, branches: tuple[str, ...]) -> Iterator[tuple[int, int, list[Concept]]]:
        """(start, end, concepts) of the names in a text, leftmost first, longest first among those.

        Only concepts in these branches of the MeSH tree.
        """
        words = list(_WORD.finditer(text))
        keys = [stem(word.group()) for word in words]
        at = 0
        while at < len(words):
            length, concepts = self._longest(keys[at : at + _LONGEST], branches)
            if concepts:
                yield words[at].start(), words[at + length - 1].end(), concepts
            at += max(length, 1)

    def _longest(self, keys: list[str], branches: tuple[str, ...]) -> tuple[int, list[Concept]]:
        for length in range(len(keys), 0, -1):
            found = self.names.get(" ".join(keys[:length]))
            concepts = self._concepts(found, branches) if found else []
            if concepts:
                return length, concepts
        return 0, []

    def _concepts(self, uis: str, branches: tuple[str, ...]) -> list[Concept]:
        known = filter(None, map(self.concept, uis.split(" ")))
        return [concept for concept in known if any(n.startswith(branches) for n in concept.tree_numbers)]


NOTHING = AdditionalNames(NameTable(b""), NameTable(b""), NameTable(b""))


_NO_PLURALS = frozenset({"mets"})
"""Names whose singular is another word: "criteria are met" does not mean metastases."""


def stem(word: str) -> str:
    """The word in lower case and singular; never merges two different words of the vocabulary.

    >>> stem("Strokes"), stem("Sepsis"), stem("Parkinson's"), stem("Arrhythmias"), stem("mets")
    ('stroke', 'sepsis', 'parkinson', 'arrhythmia', 'mets')
    """
    low = word.lower().removesuffix("'s")
    if low in _NO_PLURALS:
        return low
    if len(low) > 3 and low.endswith("s") and not low.endswith(("ss", "us", "is")):
        return low[:-1]
    return low


def key_of(name: str) -> str:
    """The table key of a name.

    >>> key_of("Non-small-cell lung cancers")
    'non small cell lung cancer'
    """
    return " ".join(stem(word.group()) for word in _WORD.finditer(name))


@cache
def shipped() -> AdditionalNames:
    """The tables shipped with riskcards."""
    return AdditionalNames(*(NameTable(_read(f"{name}.tsv.gz")) for name in ("descriptors", "codes", "names")))


def _read(name: str) -> bytes:
    return gzip.decompress(files(__package__).joinpath(name).read_bytes())
