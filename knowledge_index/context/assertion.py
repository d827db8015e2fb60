"""What a text asserts about a mention."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Polarity(StrEnum):
    PRESENT = "present"
    ABSENT = "absent"
    UNCERTAIN = "uncertain"


class Temporality(StrEnum):
    CURRENT = "current"
    HISTORICAL = "historical"
    HYPOTHETICAL = "hypothetical"


class Experiencer(StrEnum):
    PATIENT = "patient"
    FAMILY = "family"


class MentionContext(NamedTuple):
    """Polarity, temporality and experiencer of a mention."""

    polarity: Polarity
    temporality: Temporality
    experiencer: Experiencer
