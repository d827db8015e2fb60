"""The phrases that name, grade or state something in notes: `note_phrases.yaml` as patterns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from fhir_mapping.terminology import NoteConcept, definitions, note_phrases

_BLANKS = re.compile(r"[\s-]+")
WORD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9&+]*")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A name or phrase of the vocabulary; `value` is a grade, or 1 or 0 for a state, None for the name of a
    measurement."""

    pattern: re.Pattern[str]
    length: int
    kind: str
    concept: str
    value: int | None = None


@cache
def lexicon() -> Mapping[str, tuple[Phrase, ...]]:
    """Returns first word in lower case -> phrases that begin with it, longest first."""
    found: dict[str, list[Phrase]] = {}
    for text, kind, concept, value in _vocabulary():
        first = WORD.match(text)
        if first is not None:
            exact = any(letter.isupper() for letter in text)
            plural = "s?" if kind == "name" and not exact and len(text) > 3 else ""
            pattern = re.compile(rf"{_spaced(text)}{plural}(?![A-Za-z0-9])", re.NOFLAG if exact else re.I)
            for word in {first.group().lower(), first.group().lower() + plural.removesuffix("?")}:
                found.setdefault(word, []).append(Phrase(pattern, len(text), kind, concept, value))
    return {word: tuple(sorted(phrases, key=lambda phrase: -phrase.length)) for word, phrases in found.items()}


def adjective_at(text: str, position: int) -> tuple[int, int] | None:
    """Returns the end and the grade of an adjective that begins at `position`."""
    word = WORD.match(text, position)
    if word is None or word.group().lower() not in _ends_of_adjectives()[0]:
        return None
    match = _adjectives()[0].match(text, position)
    return None if match is None else (match.end(), _grade(match.group()))


def adjective_before(text: str, position: int) -> tuple[int, int] | None:
    """Returns the start and the grade of an adjective that ends at `position`, at most 30 characters before it."""
    if _last_word(text, position) not in _ends_of_adjectives()[1]:
        return None
    match = _adjectives()[1].search(text, max(0, position - 30), position)
    return None if match is None else (match.start(), _grade(match.group()))


def _last_word(text: str, position: int) -> str:
    words = re.split(r"[^A-Za-z]", text[max(0, position - 30) : position])
    return words[-1].lower()


@cache
def _ends_of_adjectives() -> tuple[frozenset[str], frozenset[str]]:
    """Returns the first and the last words of the adjectives: most words are neither, and cost no search."""
    split = [re.split(r"[^a-z]+", word.lower()) for word in note_phrases().adjectives]
    return frozenset(words[0] for words in split), frozenset(words[-1] for words in split)


@cache
def _adjectives() -> tuple[re.Pattern[str], re.Pattern[str]]:
    known = sorted(note_phrases().adjectives, key=len, reverse=True)
    either = "|".join(_spaced(word) for word in known)
    return re.compile(rf"(?:{either})\b", re.I), re.compile(rf"\b(?:{either})\Z", re.I)


def _grade(written: str) -> int:
    """Returns the grade of an adjective, however it is spaced and hyphenated."""
    return _grades()[_BLANKS.sub(" ", written.lower())]


@cache
def _grades() -> Mapping[str, int]:
    return {_BLANKS.sub(" ", word.lower()): grade for word, grade in note_phrases().adjectives.items()}


def part_of_another_name(text: str, phrase: Phrase, start: int, end: int) -> bool:
    """Whether the name is part of another name: `urine creatinine`, `lactate dehydrogenase`, `K/uL`."""
    if phrase.kind != "name":
        return False
    words = note_phrases().concepts[phrase.concept]
    ahead = re.compile(r"[\s-]*([A-Za-z]+)").match(text, end)
    behind = re.compile(r"([A-Za-z]+)[\s-]*\Z").search(text, max(0, start - 30), start)
    previous = behind[1].lower() if behind else ""
    following = ahead[1].lower() if ahead else ""
    unit = re.compile(r"/[A-Za-z]").match(text, end) is not None or text[max(0, start - 1) : start] == "/"
    return (
        unit
        or previous in words.not_after
        or following in words.not_before
        or following in note_phrases().no_result
        or _other_specimen(words, previous)
    )


def _other_specimen(words: NoteConcept, previous: str) -> bool:
    if words.definition.specimen not in {"blood", "arterial"} or not previous:
        return False
    others = (specimen for specimen in definitions().specimens if specimen.name in {"urine", "csf", "other"})
    return any(previous.startswith(word) for specimen in others for word in specimen.words)


def _vocabulary() -> Iterator[tuple[str, str, str, int | None]]:
    words = note_phrases()
    for name, concept in words.concepts.items():
        yield from ((text, "name", name, None) for text in concept.names)
        yield from ((text, "grade", name, grade) for text, grade in concept.grades.items())
    for state in words.states.values():
        yield from ((text, "state", state.name, 1) for text in state.present)
        yield from ((text, "state", state.name, 0) for text in state.absent)
    yield from ((text, "pressures", "", None) for text in words.pressures)
    yield from ((text, "blood_gases", "", None) for text in words.blood_gases)


def _spaced(text: str) -> str:
    """Returns a pattern in which a blank matches any white space or a hyphen."""
    return re.escape(text).replace(r"\ ", r"[\s-]+").replace(r"\-", r"[\s-]?")
