"""Text of charts and servers on a page, without characters that nobody sees and that change what is seen.

Bidirectional controls reorder a line ("no" may move behind the next word), tag characters carry hidden text to whoever
copies it, zero-width ones split words. Joiners stay: Persian and Indic names need them.
"""

from __future__ import annotations

from typing import Any

_RANGES = (
    (0x00, 0x08), (0x0B, 0x0C), (0x0E, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x061C, 0x061C), (0x180B, 0x180F),
    (0x200B, 0x200B), (0x200E, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB),
    (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
_HIDDEN = {code: None for first, last in _RANGES for code in range(first, last + 1)}


def visible(value: Any) -> Any:
    """The value as templates write it: a text without hidden characters, anything else as it is.

    >>> visible("no \\u202epneumonia\\U000e0041"), visible(7)
    ('no pneumonia', 7)
    """
    return value.translate(_HIDDEN) if isinstance(value, str) and not value.isascii() else value
