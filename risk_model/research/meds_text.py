"""The events of a MEDS subject as a list of codes for an encoder, and as counts, as known at a prediction time.

No vocabulary is needed: words come from `description` in metadata/codes.parquet, and a code without one is used as it
is. The list of codes follows arXiv 2502.17403, as does the Markdown of `meds_markdown`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from fhir_mapping.record import CHARACTERS_PER_TOKEN
from risk_model.research.meds_visits import SubjectEvent, Visit, visit_of_each, visits_of

_BIRTH, _DEATH, _GENDER = "MEDS_BIRTH", "MEDS_DEATH", "GENDER"
_SEXES = {"F": "female", "M": "male"}
_YEAR = 365.25


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What codes mean: code -> description, and code -> all codes above it in its terminology."""

    descriptions: Mapping[str, str]
    ancestors: Mapping[str, tuple[str, ...]]

    def words(self, code: str) -> str:
        """
        >>> Vocabulary({"LOINC//2951-2": "Sodium"}, {}).words("LOINC//2951-2")
        'Sodium'
        >>> Vocabulary({}, {}).words("LAB//50983//mEq/L")
        'LAB 50983 mEq/L'
        """
        return self.descriptions.get(code) or code.replace("//", " ")

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, object]]) -> Vocabulary:
        """From the rows of codes.parquet: `code`, `description`, `parent_codes`."""
        descriptions: dict[str, str] = {}
        parents: dict[str, tuple[str, ...]] = {}
        for row in rows:
            code, words, above = str(row["code"]), row.get("description"), row.get("parent_codes")
            if isinstance(words, str) and words.strip():
                descriptions[code] = " ".join(words.split())
            if isinstance(above, list):
                parents[code] = tuple(str(parent) for parent in above)
        return cls(descriptions, {code: _above(code, parents) for code in parents})


def _above(code: str, parents: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    waiting = list(parents.get(code, ()))
    while waiting:
        parent = waiting.pop()
        if parent != code and parent not in found:
            found[parent] = None
            waiting.extend(parents.get(parent, ()))
    return tuple(found)


class Subject:
    """All events of one subject, to be looked at as of any time: nothing later is among what is seen."""

    def __init__(self, events: Iterable[SubjectEvent], vocabulary: Vocabulary) -> None:
        listed = list(events)
        self.vocabulary = vocabulary
        self._listed = listed
        self._static = [event for event in listed if event.time is None]
        dated = [(event.time, place, event) for place, event in enumerate(listed) if event.time is not None]
        dated.sort(key=lambda item: item[:2])
        self._times = [time for time, _, _ in dated]
        self._dated = [event for _, _, event in dated]

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        """All visits, oldest first, as they are known at the end of the data."""
        return visits_of(self._listed)

    @cached_property
    def _visit_of_each(self) -> list[Visit | None]:
        return visit_of_each(self._dated, self.visits)

    def known(self, at: datetime) -> Sequence[SubjectEvent]:
        """Dated events up to and including `at`, oldest first."""
        return self._dated[: bisect_right(self._times, at)]

    def counts(self, at: datetime) -> Counter[str]:
        """How often each code occurs by then, and each code above it."""
        found: Counter[str] = Counter()
        for event in (*self._static, *self.known(at)):
            if event.code not in {_BIRTH, _DEATH}:
                found[event.code] += 1
                found.update(self.vocabulary.ancestors.get(event.code, ()))
        return found

    def codes(self, at: datetime, budget: int) -> str:
        """Descriptions, newest first, each once, at most `budget` tokens."""
        return within_budget((self.vocabulary.words(event.code) for event in self.newest(at)), budget)

    def newest(self, at: datetime) -> Iterator[SubjectEvent]:
        """Yields the events known by then, newest first, without birth, death and sex."""
        skipped = (_BIRTH, _DEATH, _GENDER)
        return (event for event in reversed(self.known(at)) if not event.code.startswith(skipped))

    def by_visit(self, at: datetime) -> dict[Visit | None, list[SubjectEvent]]:
        """Returns the events of `newest` by their visit; None for those outside visits."""
        skipped = (_BIRTH, _DEATH, _GENDER)
        found: dict[Visit | None, list[SubjectEvent]] = {}
        for place in reversed(range(len(self.known(at)))):
            event, visit = self._dated[place], self._visit_of_each[place]
            if not event.code.startswith(skipped):
                # A visit may be named by events that were recorded before it begins.
                found.setdefault(visit if visit is not None and visit.start <= at else None, []).append(event)
        return found

    def age(self, at: datetime) -> float | None:
        """Returns the years since birth."""
        born = next((time for time, event in zip(self._times, self._dated, strict=True) if event.code == _BIRTH), None)
        return None if born is None or born > at else (at - born).days / _YEAR

    def sex(self, at: datetime) -> str:
        genders = (event.code for event in (*self._static, *self.known(at)) if event.code.startswith(_GENDER))
        letter = next(genders, "").replace("//", "/").rpartition("/")[2][:1].upper()
        return _SEXES.get(letter, "unknown")


def within_budget(lines: Iterable[str], budget: int, *, repeated: bool = False) -> str:
    """As many whole lines from the beginning as fit; of a first line that does not, as many characters.

    >>> within_budget(["sodium", "sodium", "heart failure"], budget=3)
    'sodium'
    >>> within_budget(["heart failure"], budget=1)
    'hear'
    """
    characters_left = budget * CHARACTERS_PER_TOKEN
    kept: list[str] = []
    seen: set[str] = set()
    for line in lines:
        if not repeated and line in seen:
            continue
        seen.add(line)
        if characters_left < len(line):
            return "\n".join(kept) if kept else line[:characters_left]
        kept.append(line)
        characters_left -= len(line) + 1
    return "\n".join(kept)
