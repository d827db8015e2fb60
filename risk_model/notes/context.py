"""The context of a mention in a note: that of its sentence (`knowledge_index.context`) and that of its section."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property

from fhir_mapping import Section
from knowledge_index import Experiencer, MentionContext, Temporality, TextContext

_PAST_SECTIONS = frozenset({"past_history", "allergies"})
_NOT_OF_NOW = _PAST_SECTIONS | {"family_history"}
# What ends a section about the past: an empty line, a sentence about today and, but for allergies, an unknown heading
# (`Penicillin: anaphylaxis` is none).
_TODAY = (
    r"(?i:[.;]\s+(?:(?:the )?(?:patient|pt|he|she|m[rs]s?\.? \w+) )?(?:is |was )?(?:now |today )?"
    r"(?:presents?|presented|presenting|admitted|comes|came|complains?|c/o|here|today|currently|now)\b)"
)
_EMPTY_LINE = r"\n[ \t]*\n"
_ENDS = re.compile(rf"{_EMPTY_LINE}|\n[ \t]*[A-Z][\w/&() -]{{0,30}}:|{_TODAY}")
_ENDS_ALLERGIES = re.compile(rf"{_EMPTY_LINE}|{_TODAY}")


class NoteContext:
    """NoteContext(text, sections).of(start, end) -> MentionContext of the mention at these offsets

    >>> text = "Mother had CHF. No cough, h/o gout"
    >>> [str(said) for said in NoteContext(text).of(29, 33)]
    ['present', 'historical', 'patient']
    """

    def __init__(self, text: str, sections: Sequence[Section] = (), language: str = "en") -> None:
        self.text = text
        self.sentences = TextContext(text, language)
        self._sections = sorted(sections, key=lambda section: section.start)
        self._starts = [section.start for section in self._sections]

    def of(self, start: int, end: int) -> MentionContext:
        section = self.current_section(start)
        past = section in _PAST_SECTIONS
        return MentionContext(
            self.sentences.polarity(start, end),
            self.sentences.temporality(start, end, past=past),
            self.experiencer(start, end, section),
        )

    def temporality(self, start: int, end: int, since: int, section: str | None) -> Temporality:
        """Returns when a mention in a section is, by the words from `since` on."""
        return self.sentences.temporality(start, end, since, past=section in _PAST_SECTIONS)

    def experiencer(self, start: int, end: int, section: str | None) -> Experiencer:
        """Returns whether a mention in a section is the patient's or a relative's."""
        if section == "family_history":
            return Experiencer.PATIENT if self.sentences.of_patient(start, end) else Experiencer.FAMILY
        return self.sentences.experiencer(start, end)

    def section_at(self, position: int) -> str | None:
        """Returns the name of the section at a position."""
        found = self._section(position)
        return None if found is None else found.name

    def current_section(self, position: int) -> str | None:
        """Like `section_at`, but past and family history and allergies end at an empty line or an unknown heading.

        A section reaches to the next known heading: `PMH: COPD.` followed by `Kidneys: creatinine 3.4` once made all
        that followed historical.
        """
        found = self._section(position)
        if found is None or found.name not in _NOT_OF_NOW:
            return None if found is None else found.name
        ends = self._ends_of_allergies if found.name == "allergies" else self._ends
        first = bisect_right(ends, found.start)
        return None if first < len(ends) and ends[first] <= position else found.name

    @cached_property
    def _ends(self) -> list[int]:
        return [match.end() for match in _ENDS.finditer(self.text)]

    @cached_property
    def _ends_of_allergies(self) -> list[int]:
        return [match.end() for match in _ENDS_ALLERGIES.finditer(self.text)]

    def _section(self, position: int) -> Section | None:
        at = bisect_right(self._starts, position) - 1
        # Sections follow each other; one that ends early leaves words in none.
        return self._sections[at] if at >= 0 and position < self._sections[at].end else None


def context(text: str, sections: Sequence[Section], start: int, end: int) -> MentionContext:
    """Returns the context of one mention of a note's text."""
    return NoteContext(text, sections).of(start, end)


def section_at(sections: Sequence[Section], position: int) -> str | None:
    """Returns the name of the section at a position."""
    return next((s.name for s in reversed(sections) if s.start <= position < s.end), None)
