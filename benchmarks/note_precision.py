"""Precision and recall of the rule reader on labelled sentences of our own: findings with their context, and values.

    python -m benchmarks.note_precision [--part held_out] [--errors] [--out benchmarks/results/note_precision.json]

`benchmarks/sentences/dev.tsv` was looked at while the rules were written, `held_out.tsv` was written before and not
looked at. A line has a kind, a text and the values that count as current measurements, in order. In the text a finding
is marked `[-chest pain]`: `+` present, `-` denied, `?` uncertain, `<` past, `>` planned or possible, `~` a relative's;
several signs are alternatives. What is not marked is not present: a mention there may be read as denied or planned.
A value is right if it is the next that is labelled of its concept, within 1 %.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import readme
from benchmarks.measuring import write
from fhir_mapping import Note
from fhir_mapping.notes.sections import find_sections
from knowledge_index import KnowledgeIndex
from risk_model import Experiencer, Finding, NoteFindings, Polarity, RuleNoteReader, Temporality

FOLDER = Path(__file__).with_name("sentences")
PARTS = ("held_out", "dev")
SIGNS = "+-?<>~"
_MARK = re.compile(rf"\[([{re.escape(SIGNS)}]{{1,3}})(?=\S)([^\]\n]+)\]")
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Mark:
    start: int
    end: int
    signs: str


@dataclass(frozen=True, slots=True)
class LabelledText:
    kind: str
    text: str
    marks: tuple[Mark, ...]
    values: tuple[tuple[str, float], ...]


def labelled(part: str, folder: Path = FOLDER) -> tuple[LabelledText, ...]:
    """Returns the labelled sentences of a part. Raises ValueError for a malformed line."""
    lines = (folder / f"{part}.tsv").read_text("utf-8").splitlines()[1:]
    return tuple(_labelled(line) for line in lines if line)


def _labelled(line: str) -> LabelledText:
    kind, marked, values = (*line.split("\t"), "")[:3]
    marked = marked.replace("\\n", "\n")
    text, marks, done = "", [], 0
    for match in _MARK.finditer(marked):
        text += marked[done : match.start()]
        marks.append(Mark(len(text), len(text) + len(match[2]), match[1]))
        text += match[2]
        done = match.end()
    pairs = (pair.partition("=") for pair in values.split(",") if pair.strip())
    return LabelledText(
        kind, text + marked[done:], tuple(marks), tuple((name.strip(), float(value)) for name, _, value in pairs)
    )


def sign_of(finding: Finding) -> str:
    """Returns the sign of what was read, a relative's first and present last, as the card groups them."""
    if finding.experiencer is Experiencer.FAMILY:
        return "~"
    if finding.polarity is Polarity.ABSENT:
        return "-"
    if finding.temporality is Temporality.HISTORICAL:
        return "<"
    if finding.temporality is Temporality.HYPOTHETICAL:
        return ">"
    return "?" if finding.polarity is Polarity.UNCERTAIN else "+"


def counts(sentence: LabelledText, read: NoteFindings) -> tuple[Counter[str], list[str]]:
    """Returns what was read, right and labelled, and the errors in words."""
    found: Counter[str] = Counter()
    errors: list[str] = []
    hit: set[Mark] = set()
    for finding in read.findings:
        sign = sign_of(finding)
        mark = next((m for m in sentence.marks if m.start < finding.end and finding.start < m.end), None)
        right = sign != "+" if mark is None else sign in mark.signs
        found.update({"findings read": 1, "findings right": right})
        if sign == "+":
            found.update({"present read": 1, "present right": right})
        if right and mark is not None:
            hit.add(mark)
        if not right:
            errors.append(f"{sign}{finding.quote} ({finding.name})")
    found.update({"findings labelled": len(sentence.marks), "findings found": len(hit)})
    present = [mark for mark in sentence.marks if mark.signs == "+"]
    found.update({"present labelled": len(present), "present found": sum(mark in hit for mark in present)})
    errors += [f"not read: {m.signs}{sentence.text[m.start : m.end]}" for m in sentence.marks if m not in hit]
    return found + _values(sentence, read, errors), errors


def _values(sentence: LabelledText, read: NoteFindings, errors: list[str]) -> Counter[str]:
    """Counts numbers; grades and states (`oliguric`, `intubated`) are not labelled."""
    left = list(sentence.values)
    found: Counter[str] = Counter({"values labelled": len(left)})
    for value in read.values:
        if not value.counts or value.value is None or value.unit is None:
            continue
        same = [pair for pair in left if pair[0] == value.concept and abs(pair[1] - value.value) <= 0.01 * abs(pair[1])]
        found.update({"values read": 1, "values right": bool(same)})
        if same:
            left.remove(same[0])
        else:
            errors.append(f"{value.concept}={value.value}")
    found["values found"] = len(sentence.values) - len(left)
    errors += [f"not read: {name}={number}" for name, number in left]
    return found


def measured(all_counts: Sequence[Counter[str]], seed: int = 20) -> dict[str, Any]:
    """Returns precision and recall with 95 % intervals by bootstrap over sentences."""
    chosen = np.random.default_rng(seed).integers(0, len(all_counts), (RESAMPLES, len(all_counts)))
    result: dict[str, Any] = {"sentences": len(all_counts)}
    for name in ("findings", "present", "values"):
        pairs = {"precision": ("right", "read"), "recall": ("found", "labelled")}
        result[name] = {
            measure: _share(all_counts, f"{name} {above}", f"{name} {below}", chosen)
            for measure, (above, below) in pairs.items()
        }
    return result


def _share(all_counts: Sequence[Counter[str]], above: str, below: str, chosen: np.ndarray[Any, Any]) -> dict[str, Any]:
    upper = np.array([one[above] for one in all_counts])
    lower = np.array([one[below] for one in all_counts])
    sampled = upper[chosen].sum(1) / np.maximum(1, lower[chosen].sum(1))
    return {
        "of": int(lower.sum()),
        "value": round(float(upper.sum() / max(1, lower.sum())), 4),
        "interval": [round(float(edge), 4) for edge in np.quantile(sampled, (0.025, 0.975))],
    }


def read_all(
    sentences: Sequence[LabelledText], reader: RuleNoteReader
) -> Iterator[tuple[LabelledText, Counter[str], list[str]]]:
    for sentence in sentences:
        text = sentence.text
        note = Note("note", "Note", None, text, find_sections(text), "note", "read")
        found, errors = counts(sentence, reader.read([note]))
        yield sentence, found, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="[default: both]")
    parser.add_argument("--errors", action="store_true", help="print the sentences that are misread")
    parser.add_argument("--out", type=Path, default=readme.RESULTS / "note_precision.json")
    options = parser.parse_args()
    reader = RuleNoteReader(KnowledgeIndex.open_starter(), embed=False, values=True)
    result: dict[str, Mapping[str, Any]] = {}
    for part in options.part or PARTS:
        read = list(read_all(labelled(part), reader))
        result[part] = measured([found for _, found, _ in read])
        for sentence, _, errors in read if options.errors else ():
            if errors:
                print(f"{sentence.kind}: {sentence.text!r}\n    {'; '.join(errors)}", file=sys.stderr)
    write(options.out, result)


if __name__ == "__main__":
    main()
