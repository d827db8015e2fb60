"""From what a model says to what a note says: every quote found in the note, every name in the vocabulary, or dropped.

A finding needs both: words of the note, and a concept that those words can mean. A model that quotes one thing and
names another gets neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

from fhir_mapping import Note
from knowledge_index import Concept, KnowledgeIndex
from risk_model.core.values import Finding, NoteValue
from risk_model.notes.context import section_at
from risk_model.notes.reading import NoteReading
from risk_model.notes.rule_reader import is_finding
from risk_model.notes.stated_values import value_at
from risk_model.prompts.answers import MAX_QUOTE, AnswerFinding, AnswerValue, ReaderAnswer
from risk_model.prompts.note_prompt import Window, harmless

LIKE = 0.75
"""How alike a word of a quote and one of a name must be to be the same word misspelt."""
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]+")
_DIGITS = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


@dataclass(slots=True)
class Anchored:
    """Collects a note's answers, window by window.

    anchored = Anchored(index, note)
    anchored.add(window, answer, pmids)     # of the passages shown, in their order
    anchored.reading -> NoteReading
    """

    index: KnowledgeIndex
    note: Note
    reading: NoteReading = field(default_factory=lambda: NoteReading((), by_language_model=True))
    _taken: set[tuple[str, int]] = field(default_factory=set)

    def add(self, window: Window, answer: ReaderAnswer, pmids: Sequence[str]) -> None:
        findings = [self._finding(window, said) for said in answer.findings]
        values = [self._value(window, said) for said in answer.values]
        cited = tuple(pmids[number - 1] for number in answer.cited if 0 < number <= len(pmids))
        known = self.reading
        self.reading = replace(
            known,
            findings=known.findings + tuple(filter(None, findings)),
            values=known.values + tuple(filter(None, values)),
            dropped=known.dropped + findings.count(None) + values.count(None),
            cited=tuple(dict.fromkeys(known.cited + cited)),
            cited_dropped=known.cited_dropped + len(answer.cited) - len(cited),
        )

    def _finding(self, window: Window, said: AnswerFinding) -> Finding | None:
        concept = meant(self.index, said.quote, said.name)
        if concept is None:
            return None
        for start, end in _places(window, said.quote):
            if (concept.ui, start) not in self._taken:
                self._taken.add((concept.ui, start))
                return Finding(
                    concept_ui=concept.ui,
                    name=concept.name,
                    polarity=said.polarity,
                    temporality=said.temporality,
                    experiencer=said.experiencer,
                    note_source=self.note.source,
                    quote=self.note.text[start:end],
                    start=start,
                    end=end,
                    section=section_at(self.note.sections, start),
                )
        return None

    def _value(self, window: Window, said: AnswerValue) -> NoteValue | None:
        for start, end in _places(window, said.quote):
            for number in _DIGITS.finditer(self.note.text, start, end):
                written = float(number.group().replace(",", ""))
                if written != said.value or (said.concept, number.start()) in self._taken:
                    continue
                found = value_at(self.note.text, (start, end), number.start(), said.concept, self.note.sections)
                if found is not None:
                    self._taken.add((said.concept, number.start()))
                    return replace(found, note_source=self.note.source)
        return None


def meant(index: KnowledgeIndex, quote: str, name: str) -> Concept | None:
    """The concept that both quote and name can mean, or None.

    Where the vocabulary knows the quote, that is what it means, whatever the name; where it does not, an abbreviation
    or a misspelling may still be one of the name.
    """
    quoted = _concepts(index, quote)
    named = _concepts(index, name)
    for concept in quoted:
        if concept.ui in {other.ui for other in named}:
            return concept
    if quoted:
        return quoted[0]
    return next((concept for concept in named if _spelt_alike(quote, (name, concept.name, *concept.synonyms))), None)


def _concepts(index: KnowledgeIndex, text: str) -> list[Concept]:
    """Findings a text names, the longest mention first."""
    linked = [item for item in index.link_text(text) if is_finding(item.concept)]
    return [item.concept for item in sorted(linked, key=lambda item: -len(item.mention))]


def _spelt_alike(quote: str, names: Iterable[str]) -> bool:
    """
    >>> _spelt_alike("bilateral pnuemonia", ["Pneumonia"]), _spelt_alike("new AKI", ["Acute kidney injury"])
    (True, True)
    >>> _spelt_alike("stable overnight", ["Sepsis"]), _spelt_alike("no", ["Death"])
    (False, False)
    """
    words = [word.lower() for word in _WORD.findall(quote)]
    for name in names:
        parts = [part.lower() for part in _WORD.findall(name)]
        initials = "".join(part[0] for part in parts)
        if any(len(word) >= 3 and word == initials for word in words):
            return True
        long = [part for part in parts if len(part) >= 5]
        if any(SequenceMatcher(None, word, part).ratio() >= LIKE for part in long for word in words if len(word) >= 4):
            return True
    return False


def _places(window: Window, quote: str) -> Iterator[tuple[int, int]]:
    """Where the note says a quote: offsets into the note. Case and white space may differ, nothing else."""
    words = harmless(quote).split()
    if not words or len(quote) > 2 * MAX_QUOTE:
        return
    pattern = re.compile(r"\s+".join(map(re.escape, words)), re.I)
    for match in pattern.finditer(window.shown):
        yield window.start + match.start(), window.start + match.end()
