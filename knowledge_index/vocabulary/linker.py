"""Links a patient's notes and codes to MeSH concepts.

Codes are matched within their own code system. Text is matched by whole words in one pass (see `automaton`); the
longest mention wins. Abbreviations (`AF`, `MI`) are case-sensitive, so that "was" or "pe" never become diseases. A
mention negated by its clause is returned and marked `negated`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple

from artifact_store import CodeSystem, canonical_system
from knowledge_index.context import Polarity, TextContext
from knowledge_index.core.values import Concept, LinkedConcept
from knowledge_index.vocabulary.additional_names import ALL, DISEASES, DRUGS, AdditionalNames, shipped, stem
from knowledge_index.vocabulary.automaton import Automaton
from knowledge_index.vocabulary.entries import VocabularyEntry, entries

_TOKEN = re.compile(r"[^\W_]+(?:'[a-z]+)?")
_GLUE = re.compile(r"[\s\-/,()]{1,4}\Z")
_ABBREVIATION = re.compile(r"(?=(?:.*[A-Z]){2})[A-Za-z0-9]{2,6}\Z")

SYSTEMS = {
    CodeSystem.ICD10CM: "icd10cm",
    CodeSystem.ICD10: "icd10cm",
    CodeSystem.ICD9CM: "icd9cm",
    CodeSystem.ICD9CM_PROCEDURE: "icd9cm_procedure",
    CodeSystem.SNOMED: "snomed",
    CodeSystem.RXNORM: "rxnorm",
    CodeSystem.MESH: "mesh",
}
"""Code systems by canonical URI. `icd-10` (WHO) shares the three-character categories used for matching."""

_WORDS = re.compile(r"[a-z]{3}")
"""A code that is a name has three lower-case letters in a row."""
_CODES_BY_PREFIX = ("icd10cm", "icd9cm", "icd9cm_procedure")
# Displays that do not assert a disease of the patient: questions, relatives, risks, plans.
_NOT_A_FACT = re.compile(
    r"\b(family history|fh:|suspect\w*|at risk|risk of|screening|rule out|exclusion|negative|not detected|no\b|without|"
    r"education|referral|counsel\w*|test|measurement|antibod\w*|culture|vaccin\w*|assessment|care plan)",
    re.IGNORECASE,
)

# `PE:` opens the physical examination in American notes; anywhere else it is an embolism.
_SECTION_TITLE = re.compile(r"PE\s*:")


CACHED_CODINGS = 8192
MAX_CACHED_CHARACTERS = 256
"""Characters of system, code and display; longer codings are not cached."""

_Mention = tuple[int, int, tuple[Concept, ...]]
"""Start, end, concepts."""

# `(SRC)` or `(DOX, ...)` right after a mention.
_SHORT_FORM = re.compile(r"\s*\(([A-Z][A-Za-z0-9]{1,7})(?=[);,])")

_SHORT_USE = re.compile(r"\b([A-Z][A-Za-z0-9]{1,7}?)(?=s?\b)")
_SHORT = 4
"""Characters of a name whose plural alone is the name."""
_FARTHEST_LONG_FORM = 400
"""Characters before a short form that may hold its long form."""


class _Name(NamedTuple):
    """One name of a concept. `exact` is set for abbreviations, which are case-sensitive; `plural` for short names that
    end in s: `mets` is not `met`."""

    concept: Concept
    exact: str = ""
    plural: bool = False

    def written_so(self, written: str) -> bool:
        return (not self.exact or self.exact == written) and (not self.plural or written[-1:] in "sS")


class Linker:
    """Finds concepts. `Linker(extra)` knows the vocabulary and, by name only, the concepts in `extra` (an index's).

    Where the vocabulary and `extra` give one name to different concepts, the vocabulary wins: it was chosen for
    hospital notes. `further` are the tables for codes that the vocabulary does not contain (default: those shipped).
    """

    def __init__(
        self,
        extra: Iterable[Concept] = (),
        vocabulary: Iterable[VocabularyEntry] | None = None,
        further: AdditionalNames | None = None,
    ) -> None:
        known = tuple(entries() if vocabulary is None else vocabulary)
        self._entries = known
        self._given_tables = further
        self.concepts: dict[str, Concept] = {entry.concept.ui: entry.concept for entry in known}
        names: dict[tuple[str, ...], list[_Name]] = {}
        for entry in known:
            for words, name in _ways_to_write(entry.concept, (*entry.concept.synonyms, *entry.rxnorm)):
                names.setdefault(words, []).append(name)
        ours = set(names)
        for concept in extra:
            self.concepts.setdefault(concept.ui, concept)
            for words, name in _ways_to_write(self.concepts[concept.ui], (concept.name, *concept.synonyms)):
                if words not in ours:
                    names.setdefault(words, []).append(name)
        self._names = [tuple(dict.fromkeys(found)) for found in names.values()]
        self._automaton = Automaton(names)
        # Problem lists and orders repeat a few thousand codings each time a chart is opened.
        self._cached = lru_cache(maxsize=CACHED_CODINGS)(self._of_coding)

    # Codes ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _by_code(self) -> dict[tuple[str, str], list[Concept]]:
        table: dict[tuple[str, str], list[Concept]] = {}
        for entry in self._entries:
            table.setdefault(("mesh", entry.concept.ui), []).append(entry.concept)
            for system in (*_CODES_BY_PREFIX, "snomed"):
                for code in getattr(entry, system):
                    table.setdefault((system, code), []).append(entry.concept)
        return table

    def link_codes(self, codings: Iterable[tuple[str | None, str, str | None]]) -> tuple[LinkedConcept, ...]:
        """Concepts of (system, code, display) codings, the most specific first, each concept once.

        A code is looked up in its system; where system or code is unknown, the display is linked as text (or the code,
        where a local system uses names as codes). Codes missing from the vocabulary are looked up in the tables of
        `vocabulary.additional_names`, which hold the rest of ICD and the names of MeSH's diseases and drugs.
        An ICD code implies the concepts of every category above it (`N18.6` is end-stage and chronic kidney disease).
        """
        found: dict[str, LinkedConcept] = {}
        for system, code, display in codings:
            short = len(code) + len(system or "") + len(display or "") <= MAX_CACHED_CHARACTERS
            for item in (self._cached if short else self._of_coding)(system, code, display):
                found.setdefault(item.concept.ui, item)
        return tuple(found.values())

    def _of_coding(self, system: str | None, code: str, display: str | None) -> tuple[LinkedConcept, ...]:
        known = SYSTEMS.get(canonical_system(system or ""))
        words = display or (code if not known and _WORDS.search(code) else "")
        source = f"{known or system or 'text'}:{code.strip()}"
        linked = list(self._from_code(known, code)) if known else []
        linked = linked or self._from_display(words, source, known == "rxnorm")
        return tuple(linked or self._from_further(known, code.strip(), words, source))

    def _from_code(self, system: str, code: str) -> Iterator[LinkedConcept]:
        written = code.strip()
        key = written.replace(".", "").upper() if system in _CODES_BY_PREFIX else written
        lengths = range(len(key), 0, -1) if system in _CODES_BY_PREFIX else (len(key),)
        for length in lengths:
            for concept in self._by_code.get((system, key[:length]), ()):
                yield LinkedConcept(concept, written, f"{system}:{written}")

    def _from_display(self, display: str, source: str, drug: bool) -> list[LinkedConcept]:
        if not display or (not drug and _NOT_A_FACT.search(display)):
            return []
        return [
            LinkedConcept(item.concept, item.mention, source) for item in self.link_text(display) if not item.negated
        ]

    def _from_further(self, system: str | None, code: str, display: str, source: str) -> Iterator[LinkedConcept]:
        """Concepts of a code, or else of its display, in the additional tables; only drugs in a drug system."""
        tables = self._given_tables or shipped()
        if system in _CODES_BY_PREFIX:
            concepts = tables.of_code(system, code.replace(".", "").upper())
            yield from (LinkedConcept(concept, code, source) for concept in concepts)
            if concepts:
                return
        drug = system == "rxnorm"
        if not drug and _NOT_A_FACT.search(display):
            return
        said = TextContext(display)
        for start, end, meant in tables.mentions(display, DRUGS if drug else DISEASES if system else ALL):
            if said.polarity(start, end) is not Polarity.ABSENT:
                yield from (LinkedConcept(concept, display[start:end], source) for concept in meant)

    # Text ----------------------------------------------------------------------------------------------------------

    def link_text(self, text: str) -> tuple[LinkedConcept, ...]:
        """Mentions in reading order, with offsets into `text`, negated ones marked. Mentions do not overlap.

        >>> [(item.concept.name, item.negated) for item in Linker().link_text("CHF, denies chest pain")]
        [('Heart Failure', False), ('Chest Pain', True)]
        """
        said = TextContext(text)
        found = []
        for item in self.mentions(text):
            start, end = item.start or 0, item.end or 0
            found.append(replace(item, negated=said.polarity(start, end) is Polarity.ABSENT))
        return tuple(found)

    def mentions(self, text: str) -> Iterator[LinkedConcept]:
        """Yields the mentions of `link_text` without checking their context: none is marked as negated."""
        tokens = list(_TOKEN.finditer(text))
        for start, end, concepts in _with_short_forms(text, list(self._mentions(text, tokens))):
            for concept in concepts:
                yield LinkedConcept(concept, text[start:end], "text", start, end)

    def _mentions(self, text: str, tokens: list[re.Match[str]]) -> Iterator[_Mention]:
        """Every mention: leftmost first, longest first among those."""
        apart = [
            at + 1 for at in range(len(tokens) - 1) if not _GLUE.match(text, tokens[at].end(), tokens[at + 1].start())
        ]
        possible: list[tuple[int, int, int]] = []
        for start, end in pairwise((0, *apart, len(tokens))):
            words = [stem(token.group()) for token in tokens[start:end]]
            possible.extend((start + at, -length, name) for at, length, name in self._automaton.matches(words))
        free = 0
        for first, length, name in sorted(possible):
            last = first - length - 1
            if first < free or _SECTION_TITLE.match(text, tokens[first].start()):
                continue
            written = text[tokens[first].start() : tokens[last].end()]
            meant = [way.concept for way in self._names[name] if way.written_so(written)]
            if meant:
                yield tokens[first].start(), tokens[last].end(), tuple(dict.fromkeys(meant))
                free = last + 1


def _with_short_forms(text: str, mentions: list[_Mention]) -> list[_Mention]:
    """The mentions, plus abbreviations defined in the text: after `scleroderma renal crisis (SRC)`, every `SRC`.

    As in Schwartz and Hearst (2003), the letters of the short form must occur in the long form in order, starting with
    its first letter. A short form that is itself a name keeps that meaning.
    """
    defined: dict[str, tuple[int, tuple[Concept, ...]]] = {}
    for _, end, concepts in mentions:
        short = _SHORT_FORM.match(text, end)
        if short and short[1] not in defined and _abbreviates(short[1], text[max(0, end - _FARTHEST_LONG_FORM) : end]):
            defined[short[1]] = (short.start(1), concepts)
    if not defined:
        return mentions
    taken = {start for start, _, _ in mentions}
    more: list[_Mention] = []
    for use in _SHORT_USE.finditer(text):
        known = defined.get(use[1])
        if known is not None and use.start() >= known[0] and use.start() not in taken:
            more.append((use.start(), use.end(1), known[1]))
    return sorted([*mentions, *more], key=lambda mention: mention[0])


def _abbreviates(short: str, before: str) -> bool:
    """Whether the letters of `short` occur in order in the preceding len(short) + 1 words.

    >>> _abbreviates("SRC", "a patient with scleroderma renal crisis"), _abbreviates("NSR", "with heart failure")
    (True, False)
    """
    letters = iter(" ".join(before.split()[-len(short) - 1 :]).lower())
    starts = any(word[:1].lower() == short[0].lower() for word in before.split()[-len(short) - 1 :])
    return starts and all(letter in letters for letter in short.lower())


def _ways_to_write(concept: Concept, synonyms: Iterable[str]) -> Iterator[tuple[tuple[str, ...], _Name]]:
    for name in dict.fromkeys((concept.name, in_plain_order(concept.name), *synonyms)):
        words = tuple(stem(match.group()) for match in _TOKEN.finditer(name))
        if words:
            short_plural = len(words) == 1 and len(name) <= _SHORT and name.endswith("s") and words[0] != name.lower()
            yield words, _Name(concept, name if is_abbreviation(name) else "", short_plural)


def in_plain_order(name: str) -> str:
    """The name in natural word order: MeSH inverts some (`Hypertension, Pulmonary`).

    >>> in_plain_order("Pulmonary Disease, Chronic Obstructive"), in_plain_order("Sepsis")
    ('Chronic Obstructive Pulmonary Disease', 'Sepsis')
    """
    return " ".join(reversed(name.split(", ")))


def is_abbreviation(name: str) -> bool:
    """Whether a name is matched case-sensitively.

    >>> [is_abbreviation(name) for name in ("CHF", "HbA1c", "T2DM", "Sepsis", "flu", "ICU stay")]
    [True, True, True, False, False, False]
    """
    return _ABBREVIATION.match(name) is not None
