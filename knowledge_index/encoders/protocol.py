"""The encoder interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Turns texts into vectors.

    `fingerprint` identifies the exact weights: vectors of different fingerprints are incompatible.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (len(texts), dimensions), float32, L2-normalised. Longer texts are truncated;
        `long_text.encode_long` averages instead."""
        ...


@runtime_checkable
class QueryEncoder(Encoder, Protocol):
    """An encoder that treats queries differently: with an instruction or a separate model."""

    def encode_queries(self, texts: Sequence[str], instruction: str | None = None) -> Vectors:
        """As `encode`. `instruction` describes the task; None means the configuration's."""
        ...


def encode_queries(encoder: Encoder, texts: Sequence[str], instruction: str | None = None) -> Vectors:
    """Vectors of queries: with `encode_queries` where the encoder has it, else with `encode`."""
    if isinstance(encoder, QueryEncoder):
        return encoder.encode_queries(texts, instruction)
    return encoder.encode(texts)


def takes_instruction(encoder: Encoder) -> bool:
    """Whether an instruction changes what the encoder makes of a query."""
    template = getattr(getattr(encoder, "configuration", None), "query_template", "{instruction}")
    return isinstance(encoder, QueryEncoder) and "{instruction}" in template
