"""Our rules for notes beside medspacy: what is denied, past, planned, a relative's, present, on the same mentions.

    python -m benchmarks.note_rules [--windows 600] [--sentences FILE] [--out benchmarks/results/note_rules.json]

Both are given the mentions that our vocabulary finds; compared is how they classify them by the words around. Evaluated
are windows in the writing styles of the test part, by the metric of `risk_model.llm_tuning.examples`, and with
`--sentences` sentences of real reports that a physician labelled: the test set of NegEx (2,376 sentences of 120
reports, `rsAnnotations-1-120-random.txt` of github.com/chapmanbe/negex, not part of this project). Our rules were
improved on one half of those, by a hash of the sentence; figures are of the other. medspacy runs in the environment of
`make peers`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks import readme
from benchmarks.measuring import write
from fhir_mapping import Note
from fhir_mapping.notes.sections import find_sections
from knowledge_index import KnowledgeIndex
from risk_model import Experiencer, Finding, NoteFindings, Polarity, RuleNoteReader, Temporality
from risk_model.llm_tuning import generated_examples
from risk_model.llm_tuning.examples import ReaderExample, difference, scores, summary
from risk_model.notes.context import MentionContext, context

STATUSES = ("present", "absent", "family", "past", "planned")
PROPERTIES: Mapping[str, Callable[[MentionContext], bool]] = {
    "denied": lambda said: said.polarity is Polarity.ABSENT,
    "past": lambda said: said.temporality is Temporality.HISTORICAL,
    "planned": lambda said: said.temporality is Temporality.HYPOTHETICAL,
    "relative": lambda said: said.experiencer is Experiencer.FAMILY,
}
ABSENT = "not installed: make peers"
NOTE_OF = 10
"""Windows in a row that make a note for the measurement of speed."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A labelled sentence: the mention at `start`..`end`, and which properties it has."""

    text: str
    start: int
    end: int
    labels: Mapping[str, bool]

    @property
    def held_out(self) -> bool:
        """These were not looked at while rules were written."""
        return sha256(self.text.lower().encode()).digest()[0] % 2 == 1

    def counts(self, said: MentionContext) -> Counter[str]:
        found: Counter[str] = Counter()
        for name, has in PROPERTIES.items():
            labelled, read = self.labels[name], has(said)
            found.update({f"expected {name}": labelled, f"read {name}": read})
            found.update({f"found {name}": labelled and read, f"right {name}": labelled and read})
        return found


def sentences(path: Path) -> Iterator[Sentence]:
    """Of the tab-separated file: number, condition, sentence, negation, temporality, experiencer.

    The sentence holds its condition in capitals; where it stands is written as the condition is. Lines whose condition
    is not found in them are passed over.
    """
    for line in path.read_text(encoding="latin-1").splitlines():
        cells = [cell.strip().strip('"') for cell in line.split("\t")]
        if len(cells) < 6 or not cells[0].isdigit():
            continue
        spaced = r"\s+".join(map(re.escape, cells[1].split()))
        places = list(re.finditer(spaced, cells[2], re.I))
        if not places:
            continue
        place = next((match for match in places if match.group().isupper()), places[0])
        start, end = place.span()
        words = cells[1] if len(cells[1]) == end - start else place.group().lower()
        labels = {
            "denied": cells[3] == "Negated",
            "past": cells[4] == "Historical",
            "planned": cells[4] == "Not particular",
            "relative": cells[5] != "Patient",
        }
        yield Sentence(cells[2][:start] + words + cells[2][end:], start, end, labels)


class Medspacy:
    """medspacy through its own interpreter. `said` gives what it makes of the spans of each text, and its seconds."""

    def __init__(self, interpreter: Path) -> None:
        self._interpreter = interpreter

    @property
    def there(self) -> bool:
        if not self._interpreter.exists():
            return False
        asked = [str(self._interpreter), "-c", "import medspacy"]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def said(self, asked: Sequence[tuple[str, Sequence[tuple[int, int]]]]) -> tuple[list[list[MentionContext]], float]:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump([{"text": text, "spans": spans} for text, spans in asked], file)
            file.flush()
            script = str(Path(__file__).with_name("medspacy_way.py"))
            done = subprocess.run(
                [str(self._interpreter), script, file.name], capture_output=True, text=True, check=True
            )
        answer = json.loads(done.stdout)
        return [[_context(*flags) for flags in spans] for spans in answer["said"]], answer["seconds"]


def _context(negated: bool, uncertain: bool, historical: bool, hypothetical: bool, family: bool) -> MentionContext:
    return MentionContext(
        Polarity.ABSENT if negated else Polarity.UNCERTAIN if uncertain else Polarity.PRESENT,
        Temporality.HYPOTHETICAL if hypothetical else Temporality.HISTORICAL if historical else Temporality.CURRENT,
        Experiencer.FAMILY if family else Experiencer.PATIENT,
    )


def on_windows(examples: Sequence[ReaderExample], rules: RuleNoteReader, medspacy: Medspacy | None) -> dict[str, Any]:
    notes = [replace(example.note("note"), sections=find_sections(example.text)) for example in examples]
    read = [rules.read([note]) for note in notes]
    ours = [scores(example, found) for example, found in zip(examples, read, strict=True)]
    result: dict[str, Any] = {"windows": len(examples), "rules": summary(ours, fields=STATUSES)}
    if medspacy is None:
        return result | {"medspacy": ABSENT}
    said, _ = medspacy.said([(note.text, _spans(found)) for note, found in zip(notes, read, strict=True)])
    theirs = [
        scores(example, NoteFindings(_scored(found.findings, contexts), None, "medspacy", 1, 0))
        for example, found, contexts in zip(examples, read, said, strict=True)
    ]
    return result | {"medspacy": summary(theirs, fields=STATUSES), "ahead": _ahead(ours, theirs, STATUSES)}


def _spans(read: NoteFindings) -> list[tuple[int, int]]:
    return [(finding.start, finding.end) for finding in read.findings]


def _scored(findings: Sequence[Finding], contexts: Sequence[MentionContext]) -> tuple[Finding, ...]:
    return tuple(replace(f, **said._asdict()) for f, said in zip(findings, contexts, strict=True))


def _ahead(ours: Sequence[Counter[str]], theirs: Sequence[Counter[str]], fields: Sequence[str]) -> dict[str, Any]:
    return {name: difference(ours, theirs, (name,)) for name in fields} | {"all": difference(ours, theirs, fields)}


def on_sentences(labelled: Sequence[Sentence], medspacy: Medspacy | None) -> dict[str, Any]:
    fields = tuple(PROPERTIES)
    ours = [s.counts(context(s.text, find_sections(s.text), s.start, s.end)) for s in labelled]
    result: dict[str, Any] = {"sentences": len(labelled), "rules": summary(ours, fields=fields)}
    if medspacy is None:
        return result | {"medspacy": ABSENT}
    said, _ = medspacy.said([(s.text, [(s.start, s.end)]) for s in labelled])
    theirs = [s.counts(contexts[0]) for s, contexts in zip(labelled, said, strict=True)]
    return result | {"medspacy": summary(theirs, fields=fields), "ahead": _ahead(ours, theirs, fields)}


def speed(examples: Sequence[ReaderExample], index: KnowledgeIndex, medspacy: Medspacy | None) -> dict[str, Any]:
    """Notes a second of processor time. Ours looks for its mentions too; medspacy is given them and does not."""
    texts = ["\n\n".join(e.text for e in examples[at : at + NOTE_OF]) for at in range(0, len(examples), NOTE_OF)]
    notes = [Note("note", "Note", None, text, find_sections(text), "note", "read") for text in texts]
    rules = RuleNoteReader(index, embed=False, values=False)
    rules.read(notes[:1])
    begun = time.process_time()
    read = [rules.read([note]) for note in notes[1:]]
    ours = len(read) / (time.process_time() - begun)
    result: dict[str, Any] = {"characters_a_note": round(sum(map(len, texts)) / len(texts)), "rules_a_second": ours}
    if medspacy is None:
        return result | {"medspacy_a_second": ABSENT}
    _, seconds = medspacy.said([(note.text, _spans(found)) for note, found in zip(notes[1:], read, strict=True)])
    return result | {"medspacy_a_second": len(read) / seconds, "times": ours * seconds / len(read)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=600)
    parser.add_argument("--sentences", type=Path, help="the labelled sentences of NegEx's test set")
    parser.add_argument("--peer-python", type=Path, default=readme.ROOT / ".venv-peers" / "bin" / "python")
    parser.add_argument("--out", type=Path, default=readme.RESULTS / "note_rules.json")
    options = parser.parse_args()
    peer = Medspacy(options.peer_python)
    medspacy = peer if peer.there else None
    index = KnowledgeIndex.open_starter()
    examples = generated_examples(index, "test", options.windows)
    result = {
        "unseen_styles": on_windows(examples, RuleNoteReader(index, embed=False, values=False), medspacy),
        "speed": speed(examples, index, medspacy),
    }
    if options.sentences is None:
        print("no --sentences: real reports are left out", file=sys.stderr)
    else:
        labelled = [one for one in sentences(options.sentences) if one.held_out]
        result["labelled_sentences"] = on_sentences(labelled, medspacy)
    write(options.out, result)


if __name__ == "__main__":
    main()
