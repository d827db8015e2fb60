"""One text without its identifiers, and the way back: which position was which, and which words stood there."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from risk_model.deidentification import dates, names, patterns
from risk_model.deidentification.categories import Category
from risk_model.deidentification.patterns import Identifier
from risk_model.deidentification.word_lists import Kind, lists

# What the rules for numbers and addresses find is more certain than a name, and a date more than a bare number.
_LATE = frozenset({Category.NUMBER, Category.PHONE, Category.NAME, Category.PLACE})
_MOST = 2_000_000
"""Characters of a text that the rules read; no note is as long."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """`original`, at `start` of the original text, became `surrogate`."""

    start: int
    original: str
    category: Category
    surrogate: str

    @property
    def end(self) -> int:
        return self.start + len(self.original)


@dataclass(frozen=True)
class DeidentifiedText:
    """A text whose identifiers were replaced, with the replacements in their order."""

    text: str
    replacements: tuple[Replacement, ...] = ()

    @cached_property
    def _moves(self) -> list[tuple[int, int, int, int]]:
        """Start and end of each replacement in the original and in the new text."""
        moves, shift = [], 0
        for item in self.replacements:
            start = item.start + shift
            moves.append((item.start, item.end, start, start + len(item.surrogate)))
            shift += len(item.surrogate) - len(item.original)
        return moves

    def moved(self, position: int) -> int:
        """Returns where a position of the original text is in the new one; within a replacement, its start."""
        return _mapped(position, self._moves)

    def original(self, position: int) -> int:
        """Returns where a position of the new text was in the original; within a replacement, its start."""
        return _mapped(position, [(c, d, a, b) for a, b, c, d in self._moves])

    def restored(self, answer: str) -> str:
        """Returns an answer about the new text in the words of the original: each surrogate is put back."""
        back: dict[str, str] = {}
        for item in self.replacements:
            back.setdefault(item.surrogate, item.original)
        return swapped(answer, back)

    def applied(self, other: str) -> str:
        """Returns another text with the words of this one's replacements replaced, however white space breaks them."""
        there: dict[str, str] = {}
        for item in self.replacements:
            there.setdefault(item.original, item.surrogate)
            there.setdefault(" ".join(item.original.split()), item.surrogate)
        return swapped(other, there)


def swapped(text: str, words: dict[str, str]) -> str:
    """Returns a text with these words replaced, the longest first, none inside a longer word or number.

    >>> swapped("Ann saw Anne on 1/2", {"Ann": "[NAME-1]", "1/2": "3/4"})
    '[NAME-1] saw Anne on 3/4'
    """
    if not words:
        return text
    listed = sorted(words, key=len, reverse=True)
    pattern = re.compile(
        "|".join(rf"(?<!\w){re.escape(w)}(?!\w)" if w[-1:].isalnum() else re.escape(w) for w in listed)
    )
    return pattern.sub(lambda match: words[match[0]], text)


def deidentified(text: str, offset: timedelta, year: int, known: Iterable[str] = ()) -> DeidentifiedText:
    """Returns a text without identifiers. `known` are words that identify this patient, whatever the rules say.

    >>> deidentified("Mr. Smith, 93 y/o, seen 03/04/2021 by Dr. Adeyemi.", timedelta(days=-28), 2021).text
    'Mr. [NAME-1], 90+ y/o, seen 02/04/2021 by Dr. [NAME-2].'
    """
    if len(text) > _MOST:
        raise ValueError(f"a text of {len(text)} characters; the rules read {_MOST}")
    numbers: dict[tuple[Category, str], int] = {}
    found = []
    for item in chosen(text, offset, year, known):
        original = text[item.start : item.end]
        if item.surrogate is None:
            key = (item.category, " ".join(original.lower().split()))
            number = numbers.setdefault(key, 1 + sum(category is item.category for category, _ in numbers))
            surrogate = f"[{item.category}-{number}]"
        else:
            surrogate = item.surrogate
        found.append(Replacement(item.start, original, item.category, surrogate))
    parts, place = [], 0
    for replacement in found:
        parts += [text[place : replacement.start], replacement.surrogate]
        place = replacement.end
    return DeidentifiedText("".join([*parts, text[place:]]), tuple(found))


def chosen(text: str, offset: timedelta, year: int, known: Iterable[str] = ()) -> list[Identifier]:
    """Returns the identifiers that are replaced, in order: of two that meet, the more certain one."""
    taken: list[Identifier] = []
    covered = bytearray(len(text))
    for item in _candidates(text, offset, year, known):
        if not any(covered[item.start : item.end]):
            covered[item.start : item.end] = b"\1" * (item.end - item.start)
            taken.append(item)
        else:
            # The rest of a longer one goes too: `Springfield General` where `Springfield` was taken.
            taken += _rest(item, covered, text)
    return sorted(taken, key=lambda item: item.start)


def _rest(item: Identifier, covered: bytearray, text: str) -> Iterator[Identifier]:
    start = item.start
    while start < item.end:
        if covered[start]:
            start += 1
            continue
        end = start
        while end < item.end and not covered[end]:
            end += 1
        piece = text[start:end]
        left, right = len(piece) - len(piece.lstrip(" ,.;-")), len(piece.rstrip(" ,.;-"))
        if right > left:
            covered[start + left : start + right] = b"\1" * (right - left)
            yield Identifier(start + left, start + right, item.category)
        start = end


def _candidates(text: str, offset: timedelta, year: int, known: Iterable[str]) -> Iterator[Identifier]:
    listed = list(patterns.identifiers(text))
    yield from (item for item in listed if item.category not in _LATE)
    yield from _known(text, known)
    yield from (item for item in listed if item.category is Category.PLACE)
    yield from dates.found(text, offset, year)
    yield from (item for item in listed if item.category in _LATE)
    yield from names.found(text)


def _known(text: str, known: Iterable[str]) -> Iterator[Identifier]:
    """Words of the record's own names and numbers; a word that is ordinary too counts only with a capital."""
    wanted = sorted({word for word in known if len(word) > 2}, key=len, reverse=True)
    if not wanted:
        return
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(word) for word in wanted)})(?!\w)", re.I)
    for match in pattern.finditer(text):
        word = match[0]
        if word.isalpha() and word.islower() and lists().kind(word) in (Kind.ORDINARY, Kind.AMBIGUOUS):
            continue
        category = Category.RECORD if any(sign.isdigit() for sign in word) else Category.NAME
        yield Identifier(match.start(), match.end(), category)


def _mapped(position: int, moves: list[tuple[int, int, int, int]]) -> int:
    number = bisect_right([move[0] for move in moves], position) - 1
    if number < 0:
        return position
    _, end, new_start, new_end = moves[number]
    return new_start if position < end else new_end + position - end
