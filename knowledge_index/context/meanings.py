"""Abbreviations with several meanings in notes: the contexts (`abbreviations.yaml`) in which one is not the disease."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Meaning:
    """The contexts of one abbreviation; patterns are of the words right before and right after it."""

    before: re.Pattern[str] | None
    after: re.Pattern[str] | None
    needs: re.Pattern[str] | None
    """If given, the abbreviation is a disease only with one of these in its neighbourhood."""

    def other(self, words: str, low: int, start: int, end: int) -> bool:
        """Whether the abbreviation at start..end of `words` means something other than the disease."""
        if self.before is not None and self.before.search(words, low, start):
            return True
        if self.after is not None and self.after.match(words, end):
            return True
        return self.needs is not None and not self.needs.search(words, low, end + start - low)


@cache
def meanings() -> Mapping[str, Meaning]:
    """Returns abbreviation -> contexts. Raises KeyError or re.error if the shipped table is invalid."""
    raw = yaml.safe_load(files("knowledge_index.context").joinpath("abbreviations.yaml").read_bytes())
    return {short: _meaning(contexts) for short, contexts in raw.items()}


def _meaning(raw: Mapping[str, Any]) -> Meaning:
    return Meaning(
        before=_pattern(raw.get("before"), r"(?<![A-Za-z])(?:{})\Z"),
        after=_pattern(raw.get("after"), r"(?:{})"),
        needs=_pattern(raw.get("needs"), r"(?<!\w)(?:{})(?!\w)"),
    )


def _pattern(lines: Sequence[str] | None, around: str) -> re.Pattern[str] | None:
    return None if lines is None else re.compile(around.format("|".join(lines)), re.I)
