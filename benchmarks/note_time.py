"""Time of the rule reader: ordinary notes, and texts made to be slow.

    python -m benchmarks.note_time [--out benchmarks/results/note_time.json]

One core, no cache, no embedding, values and findings. Ordinary notes are windows in the writing styles of the training
part, put together to notes of about 4,000 characters, 1 MB in all. Hostile texts have 100 KB each: no full stop, one
word again and again, many denials, many numbers, many headings. Each is read as one note without the bound on
characters, and within the bounds of a hook.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import readme
from benchmarks.measuring import write
from fhir_mapping import Note
from fhir_mapping.notes.sections import find_sections
from knowledge_index import KnowledgeIndex
from risk_model import RuleNoteReader
from risk_model.llm_tuning import generated_examples
from risk_model.notes import ReadingBounds

HOSTILE = 100_000
ORDINARY = 1_000_000
NOTE = 4_000
WORDS = 750
CHARTS = 60
_ALL = ReadingBounds(notes=10_000, characters=10 * ORDINARY)

TEXTS: Mapping[str, Callable[[], str]] = {
    "denials of one sentence": lambda: "denies " + "nausea, " * (HOSTILE // 8),
    "one denial a word": lambda: "no nausea " * (HOSTILE // 10),
    "without, and no end of it": lambda: "without nausea " * (HOSTILE // 15),
    "relatives": lambda: "mother had stroke " * (HOSTILE // 18),
    "numbers": lambda: "Cr " + "1.2 -> " * (HOSTILE // 7),
    "values": lambda: "Cr 1.2, K 4.1, Na 140, " * (HOSTILE // 23),
    "names without values": lambda: "lactate creatinine bilirubin " * (HOSTILE // 29),
    "pressures": lambda: "BP 120/80 -> " * (HOSTILE // 13),
    "open brackets": lambda: "Cr (" * (HOSTILE // 4),
    "blanks": lambda: "Cr" + " " * HOSTILE + "1.2",
    "line breaks": lambda: "nausea\n" * (HOSTILE // 7),
    "empty lines": lambda: "\n" * HOSTILE,
    "headings": lambda: "PMH: stroke\n\nPlan: nausea\n" * (HOSTILE // 26),
    "short forms": lambda: "".join(f"heart failure (HF{number}) " for number in range(HOSTILE // 22)),
    "masked words": lambda: "[**2-14**] Cr " * (HOSTILE // 14),
    "open masks": lambda: "[**" * (HOSTILE // 3),
    "questions": lambda: "nausea? " * (HOSTILE // 8),
    "dashes": lambda: "-" * HOSTILE + " nausea",
    "one word": lambda: "a" * HOSTILE,
    "abbreviations": lambda: "RA PE MI DM " * (HOSTILE // 12),
    "urine": lambda: "UA: pH 7.0 " * (HOSTILE // 11),
    "warnings": lambda: "call " * (HOSTILE // 5) + "nausea",
    "nested brackets": lambda: "(" * (HOSTILE // 2) + "Cr 1.2" + ")" * (HOSTILE // 2),
    "values in nested brackets": lambda: "Cr 1.2 ((((" * (HOSTILE // 11),
    "disease in brackets": lambda: "[ ] sepsis (" * (HOSTILE // 12),
    "one abbreviation with a far end": lambda: "RA " * (HOSTILE // 3) + "%",
    "numbers with units": lambda: "creatinine 1.2 mg/dL (0.6-1.2 mg/dL) H " * (HOSTILE // 39),
    "ranges without end": lambda: "K 5.9 (3.5-" * (HOSTILE // 11),
    "dates": lambda: "Cr 1.2 on 3/4, " * (HOSTILE // 15),
    "written dates": lambda: "Cr 1.2 on Jan 4, " * (HOSTILE // 17),
    "courses": lambda: "Lactate 6.2, repleted and improving and down to " * (HOSTILE // 48),
    "pressures in words": lambda: "BP 120/80 improved with fluids to " * (HOSTILE // 34),
    "negations of many kinds": lambda: "no without denies not never sepsis " * (HOSTILE // 35),
    "denied list": lambda: "denies " + "sepsis, stroke, asthma, gout, " * (HOSTILE // 30) + "or cough",
    "without and": lambda: "without sepsis, stroke, asthma and " * (HOSTILE // 35),
    "no change": lambda: "no significant further interval change in " * (HOSTILE // 43) + "edema",
    "not due": lambda: "not thought to be very " * (HOSTILE // 23) + "sepsis",
    "no source": lambda: "no clear certain other source " * (HOSTILE // 30) + "of sepsis",
    "tests": lambda: "influenza test swab pcr screen " * (HOSTILE // 31) + "negative",
    "slashes": lambda: "influenza" + "/flu" * (HOSTILE // 4) + " negative",
    "risks": lambda: "sepsis care bundle " * (HOSTILE // 19),
    "section headings": lambda: "Assessment and Plan:\n" * (HOSTILE // 21),
    "capital headings": lambda: "SEPSIS STROKE:\n\n" * (HOSTILE // 16),
    "markdown": lambda: "# sepsis\n" * (HOSTILE // 9),
    "allergies": lambda: "Allergies: penicillin (anaphylaxis)\n" * (HOSTILE // 36),
    "fluids": lambda: "CSF urine stool bile " * (HOSTILE // 21),
    "history": lambda: "history of the present history of sepsis " * (HOSTILE // 41),
    "combining marks": lambda: "e\u0301" * (HOSTILE // 2) + " sepsis",
    "emoji": lambda: "\U0001f637 sepsis " * (HOSTILE // 9),
    "no-break blanks": lambda: "sepsis\u00a0\u2003" * (HOSTILE // 8),
    "zero width": lambda: "sep\u200bsis " * (HOSTILE // 8),
    "right to left": lambda: "\u202esepsis\u0627 " * (HOSTILE // 9),
    "wide digits": lambda: "Cr \uff11.\uff12, " * (HOSTILE // 8),
    "all letters": lambda: " ".join(chr(65 + at % 26) + chr(65 + at // 26 % 26) for at in range(HOSTILE // 3)),
    "not": lambda: "not " * (HOSTILE // 4) + "nausea",
}


def notes_of(texts: Mapping[str, str]) -> list[Note]:
    return [Note(name, "Note", None, text, find_sections(text), name, "read") for name, text in texts.items()]


def seconds(reader: RuleNoteReader, notes: list[Note]) -> tuple[float, dict[str, int]]:
    begun = time.process_time()
    read = reader.read(notes)
    spent = time.process_time() - begun
    return spent, {"findings": len(read.findings), "values": len(read.values), "not_read": len(read.not_read)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=readme.RESULTS / "note_time.json")
    options = parser.parse_args()
    index = KnowledgeIndex.open_starter()
    unbounded = RuleNoteReader(index, embed=False, bounds=_ALL)
    unbounded.read(notes_of({"first": "Cr 1.2, no chest pain"}))
    result: dict[str, Any] = {"ordinary": ordinary(index, unbounded), "five_notes": five_notes(index), "hostile": {}}
    for name, text in TEXTS.items():
        notes = notes_of({name: text()})
        spent, counted = seconds(unbounded, notes)
        hooked, _ = seconds(RuleNoteReader(index, embed=False), notes)
        result["hostile"][name] = {"seconds": round(spent, 3), "seconds_in_a_hook": round(hooked, 3), **counted}
    result["hostile_most_seconds"] = max(one["seconds"] for one in result["hostile"].values())
    write(options.out, result)


def ordinary(index: KnowledgeIndex, reader: RuleNoteReader) -> dict[str, Any]:
    """Reads 1 MB of notes that are all different."""
    words = _words(index)
    texts: dict[str, str] = {}
    for number in range(ORDINARY // NOTE):
        at = number * NOTE % max(1, len(words) - NOTE)
        texts[f"note {number}"] = f"Note {number}.\n{words[at : at + NOTE]}"
    notes = [replace(note, kind="progress_note") for note in notes_of(texts)]
    spent, counted = seconds(reader, notes)
    characters = sum(len(note.text) for note in notes)
    return {"characters": characters, "notes": len(notes), "seconds": round(spent, 3), **counted}


def five_notes(index: KnowledgeIndex) -> dict[str, Any]:
    """Reads five notes of 750 words at once, none seen before, as a hook does: milliseconds of 60 charts."""
    words = _words(index).split(" ")
    result: dict[str, Any] = {}
    for name, values in (("findings", False), ("findings and values", True)):
        reader = RuleNoteReader(index, embed=False, values=values)
        reader.read(notes_of({"first": "Cr 1.2, no chest pain"}))
        spent = []
        for chart in range(CHARTS):
            begin = [(5 * chart + number) * WORDS % (len(words) - WORDS) for number in range(5)]
            texts = {f"{chart} {at}": f"Note {chart} {at}. " + " ".join(words[at : at + WORDS]) for at in begin}
            spent.append(1000 * seconds(reader, notes_of(texts))[0])
        result[name] = {
            "characters": round(sum(map(len, texts.values()))),
            "p50_ms": round(float(np.quantile(spent, 0.5)), 1),
            "p95_ms": round(float(np.quantile(spent, 0.95)), 1),
        }
    return result


def _words(index: KnowledgeIndex) -> str:
    return "\n\n".join(example.text for example in generated_examples(index, "train", 2400))


if __name__ == "__main__":
    main()
