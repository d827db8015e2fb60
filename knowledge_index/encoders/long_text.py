"""Encodes texts longer than an encoder's limit: overlapping chunks, cut at word boundaries, averaged by tokens.

As in the paper on record encoders (arXiv 2502.17403), chunk vectors are averaged: an encoder limited to 256 tokens can
encode a record of 8,000 tokens or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from knowledge_index.encoders.protocol import Encoder, encode_queries

OVERLAP = 16
"""Tokens shared by neighbouring chunks, so that text at a boundary is complete in one of them."""
_CHARACTERS = 1000
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A part of a text and its weight, its number of tokens."""

    text: str
    tokens: int


@runtime_checkable
class PieceEncoder(Encoder, Protocol):
    """An encoder that splits long texts at its own token boundaries."""

    def pieces(self, text: str, instruction: str | None = None) -> list[TextPiece]:
        """The text in pieces that fit the encoder together with the instruction; empty for an empty text."""
        ...


def encode_long(encoder: Encoder, texts: Sequence[str], instruction: str | None = None) -> NDArray[np.float32]:
    """Vectors of whole texts, shape (len(texts), dimensions), L2-normalised; a row of zeros for an empty text.

    With an instruction ("" means the encoder's own) texts are encoded as queries, as the paper does with records; with
    None as documents.
    """
    split = [pieces_of(encoder, text, instruction) for text in texts]
    distinct = list(dict.fromkeys(piece.text for pieces in split for piece in pieces))
    vectors: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(distinct), _BLOCK):
        block = distinct[start : start + _BLOCK]
        made = encoder.encode(block) if instruction is None else encode_queries(encoder, block, instruction or None)
        vectors.update(zip(block, made, strict=True))
    out = np.zeros((len(texts), encoder.dimensions), np.float32)
    for row, pieces in enumerate(split):
        if pieces:
            out[row] = weighted_mean([vectors[piece.text] for piece in pieces], [piece.tokens for piece in pieces])
    return out


def weighted_mean(vectors: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    """The mean, shape (dimensions,), L2-normalised."""
    mean = np.average(np.stack(vectors).astype(np.float64), axis=0, weights=np.asarray(weights, np.float64))
    return np.asarray(mean / (np.linalg.norm(mean) or 1.0), np.float32)


def pieces_of(encoder: Encoder, text: str, instruction: str | None = None) -> list[TextPiece]:
    """The text in pieces that fit the encoder; of 1,000 characters where the encoder does not split texts."""
    if isinstance(encoder, PieceEncoder):
        return encoder.pieces(text, instruction)
    cut = (text[at : at + _CHARACTERS] for at in range(0, len(text), _CHARACTERS))
    return [TextPiece(part, len(part)) for part in cut if part.strip()]


def windows(text: str, offsets: Sequence[tuple[int, int]], budget: int, overlap: int = OVERLAP) -> list[TextPiece]:
    """The text in pieces of at most `budget` tokens. `offsets` are the (start, end) characters of each token.

    >>> words = [(0, 2), (3, 5), (6, 8), (9, 11), (12, 14)]
    >>> [piece.text for piece in windows("aa bb cc dd ee", words, budget=3, overlap=1)]
    ['aa bb cc', 'cc dd ee']
    """
    found: list[TextPiece] = []
    start = 0
    while start < len(offsets):
        end = min(start + budget, len(offsets))
        if end < len(offsets):
            end = _word_border(text, offsets, end, at_least=start + max(1, 3 * budget // 4))
        found.append(TextPiece(text[offsets[start][0] : offsets[end - 1][1]], end - start))
        if end == len(offsets):
            break
        start = max(end - overlap, start + 1)
    return [piece for piece in found if piece.text.strip()]


def _word_border(text: str, offsets: Sequence[tuple[int, int]], end: int, at_least: int) -> int:
    """The last token boundary up to `end` where a word ends; a word longer than budget / 4 is cut."""
    for place in range(end, at_least, -1):
        first = offsets[place][0]
        if text[first : first + 1].isspace() or text[first - 1 : first].isspace():
            return place
    return end
