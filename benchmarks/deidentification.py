"""Recall and precision of de-identification on identifiers planted in notes of our own.

    python -m benchmarks.deidentification [--part held_out] [--notes 200] [--errors] \
        [--out benchmarks/results/deidentification.json]

An identifier is removed if none of its letters and digits stays where it was (of a date: if another stands there).
Precision: of the characters that were replaced, the share that belonged to an identifier, and the share of words of the
note that are no identifier and were kept. `known names` gives the rules the patient's own names and record number, as
`riskcards map --deidentify` does; `rules alone` does not, as for prompts to a model server.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.measuring import write
from benchmarks.planted_identifiers import PARTS, Planted, PlantedNote, notes
from risk_model.deidentification import DeidentifiedText, deidentified

OFFSET = timedelta(days=-403)
_WORD = re.compile(r"\w+")


def removed(planted: Planted, found: DeidentifiedText, text: str) -> bool:
    """Whether every letter and digit of an identifier lies in a replacement that changed it."""
    places = {n for n in range(planted.start, planted.end) if text[n].isalnum()}
    for item in found.replacements:
        if item.surrogate != item.original:
            places -= set(range(item.start, item.end))
    return not places


def counted(note: PlantedNote, *, known: bool) -> tuple[Counter[str], list[str]]:
    """Returns the counts of one note, and its errors in words."""
    found = deidentified(note.text, OFFSET, 2020, note.known if known else ())
    counts: Counter[str] = Counter()
    errors = []
    covered: set[int] = set()
    for planted in note.planted:
        right = removed(planted, found, note.text)
        counts.update({f"planted {planted.kind}": 1, f"removed {planted.kind}": right})
        covered.update(range(planted.start, planted.end))
        if not right:
            errors.append(f"missed {planted.kind}: {note.text[max(0, planted.start - 25) : planted.end + 10]!r}")
    replaced = {n for item in found.replacements for n in range(item.start, item.end) if note.text[n].isalnum()}
    counts.update({"characters replaced": len(replaced), "characters of identifiers": len(replaced & covered)})
    for word in _WORD.finditer(note.text):
        span = set(range(*word.span()))
        if not span & covered:
            counts.update({"other words": 1, "other words kept": not span & replaced})
            if span & replaced:
                errors.append(f"removed {word[0]!r} of {note.text[max(0, word.start() - 25) : word.end() + 15]!r}")
    return counts, errors


def measured(listed: Sequence[PlantedNote], *, known: bool) -> tuple[dict[str, Any], list[str]]:
    """Returns recall by kind and precision over notes, and the errors."""
    total: Counter[str] = Counter()
    errors: list[str] = []
    for note in listed:
        counts, said = counted(note, known=known)
        total.update(counts)
        errors += said
    kinds = sorted(name.removeprefix("planted ") for name in total if name.startswith("planted "))
    by_kind = {
        kind: {"planted": total[f"planted {kind}"], "recall": total[f"removed {kind}"] / total[f"planted {kind}"]}
        for kind in kinds
    }
    planted = sum(total[f"planted {kind}"] for kind in kinds)
    return {
        "notes": len(listed),
        "planted": planted,
        "recall": sum(total[f"removed {kind}"] for kind in kinds) / planted,
        "precision": total["characters of identifiers"] / total["characters replaced"],
        "other_words_kept": total["other words kept"] / total["other words"],
        "by_kind": by_kind,
    }, errors


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.deidentification", description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: both")
    parser.add_argument("--notes", type=int, default=200)
    parser.add_argument("--errors", action="store_true", help="print errors of the development part")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    for part in chosen.part or PARTS:
        listed = notes(part, chosen.notes)
        results[part] = {}
        for name, known in (("known names", True), ("rules alone", False)):
            results[part][name], errors = measured(listed, known=known)
            figures = results[part][name]
            print(
                f"{part}, {name}: {figures['planted']} planted, recall {figures['recall']:.4f}, "
                f"precision {figures['precision']:.3f}, other words kept {figures['other_words_kept']:.4f}"
            )
            if chosen.errors and part == "development":
                print(*(f"  {count} {line}" for line, count in Counter(errors).most_common(40)), sep="\n")
        for kind, line in results[part]["rules alone"]["by_kind"].items():
            print(f"  {kind:<9} {line['planted']:>5} planted, recall {line['recall']:.3f}")
    if chosen.out:
        write(chosen.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
