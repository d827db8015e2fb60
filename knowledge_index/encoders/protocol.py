"""What an encoder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Turns texts into vectors. `fingerprint` names the exact weights: vectors of two fingerprints never mix."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimensions), float32, L2-normalised. What an encoder cannot hold is cut off;
        `long_text.encode_long` averages instead."""
        ...


@runtime_checkable
class QueryEncoder(Encoder, Protocol):
    """An encoder that takes a question otherwise than a document: by an instruction, or by a model of its own."""

    def encode_queries(self, texts: Sequence[str], instruction: str | None = None) -> Vectors:
        """As `encode`. `instruction` says what is asked for; None takes the configuration's."""
        ...


def encode_queries(encoder: Encoder, texts: Sequence[str], instruction: str | None = None) -> Vectors:
    """Questions as the encoder wants them; one that knows no difference gets them as they are."""
    if isinstance(encoder, QueryEncoder):
        return encoder.encode_queries(texts, instruction)
    return encoder.encode(texts)
