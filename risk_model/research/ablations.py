"""What is compared in a run: encoders, serialisations and instructions, with the ablations of the last two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from risk_model.research.ehrshot_tasks import MODES, Instructions
from risk_model.research.meds_markdown import PARTS

ABLATIONS = ("serialisation", "instruction")


@dataclass(frozen=True, slots=True)
class ComparedEncoder:
    """One encoder with one way to write a record and to ask about it."""

    encoder: str
    serialiser: str
    instructions: Instructions

    @property
    def name(self) -> str:
        """
        >>> ComparedEncoder("minilm", "codes", Instructions("none")).name
        'minilm, codes, no instruction'
        """
        mode = self.instructions.mode
        words = "" if mode == "task" else ", no instruction" if mode == "none" else f", {mode} instruction"
        return f"{self.encoder}, {self.serialiser}{words}"


def compared_encoders(
    encoders: Sequence[str], serialisers: Sequence[str], given: Mapping[str, str], ablations: Sequence[str]
) -> tuple[ComparedEncoder, ...]:
    """Returns every combination once, by encoder.

    The ablation of the serialisation adds Markdown and Markdown without each of its parts; that of the instruction adds
    the first serialisation with the generic instruction and with none.
    """
    asked = Instructions("task", given)
    ways = list(serialisers)
    if "serialisation" in ablations:
        ways += ["markdown", *(f"markdown-without-{part}" for part in PARTS)]
    modes = MODES[1:] if "instruction" in ablations else ()
    found = []
    for encoder in dict.fromkeys(encoders):
        found += [ComparedEncoder(encoder, way, asked) for way in dict.fromkeys(ways)]
        found += [ComparedEncoder(encoder, ways[0], replace(asked, mode=mode)) for mode in modes]
    return tuple(found)
