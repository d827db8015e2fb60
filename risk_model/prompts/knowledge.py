"""What a first stage is shown beside a patient's notes: the patient's problems, and numbered evidence about them.

Knowledge(("Heart Failure",), ("Sodium and death. Low sodium predicts death.",)).lines
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_CITED = 2
"""Passages that one reason may name."""
_CITED = re.compile(r"(?:\s*\[(\d{1,2})\])+\s*$")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """`problems` by their names in the vocabulary; `evidence` one line each, safe to show, numbered from 1."""

    problems: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """As a prompt shows it; nothing without knowledge."""
        # Names hold commas: "Shock, Septic".
        problems = (f"Problems: {'; '.join(self.problems)}.",) if self.problems else ()
        evidence = (f"[{number}] {line}" for number, line in enumerate(self.evidence, 1))
        return (*problems, *(("Literature:", *evidence) if self.evidence else ()))

    def cited_in(self, reason: str) -> tuple[str, tuple[int, ...], int]:
        """Returns (the reason without its numbers, those of passages that were shown, how many others were named).

        >>> Knowledge(evidence=("A.", "B.")).cited_in("Lactate 6.4. [2] [7]")
        ('Lactate 6.4.', (2,), 1)
        """
        found = _CITED.search(reason)
        if found is None:
            return reason, (), 0
        named = dict.fromkeys(int(number) for number in re.findall(r"\d+", found.group()))
        shown = tuple(number for number in named if 1 <= number <= len(self.evidence))
        return reason[: found.start()], shown[:MOST_CITED], len(named) - len(shown)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Knowledge:
        """Raises KeyError or TypeError for what is none of ours."""
        return cls(tuple(raw["problems"]), tuple(raw["evidence"]))
