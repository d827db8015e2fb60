"""Finds all names of a vocabulary in one pass over a text: Aho and Corasick (CACM 18, 1975), on words.

The cost is linear in the text and independent of the number of names, typically a hundred thousand.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

_WORD_BITS = 22


class Automaton:
    """Automaton([("heart", "failure"), ("failure",)]).matches(["acute", "heart", "failure"])

    A match is (start, length, number of the name). Overlapping and nested matches are all reported; the caller
    selects.
    """

    def __init__(self, names: Iterable[Sequence[str]]) -> None:
        self._words: dict[str, int] = {}
        self._next: dict[int, int] = {}
        self._name = array("l", [-1])
        self._depth = array("l", [0])
        for number, name in enumerate(names):
            self._add(number, [self._words.setdefault(word, len(self._words)) for word in name])
        self._fail = array("l", [0]) * len(self._name)
        # The next shorter name that ends at a state: finds nested matches without visiting states that end none.
        self._shorter = array("l", [0]) * len(self._name)
        self._link()

    def _add(self, number: int, words: list[int]) -> None:
        state = 0
        for word in words:
            key = state << _WORD_BITS | word
            after = self._next.get(key)
            if after is None:
                after = self._next[key] = len(self._name)
                self._name.append(-1)
                self._depth.append(self._depth[state] + 1)
            state = after
        if words and self._name[state] < 0:
            self._name[state] = number

    def _link(self) -> None:
        children: dict[int, list[tuple[int, int]]] = {}
        for key, after in self._next.items():
            children.setdefault(key >> _WORD_BITS, []).append((key & (1 << _WORD_BITS) - 1, after))
        waiting = deque([0])
        while waiting:
            state = waiting.popleft()
            for word, after in children.get(state, ()):
                fallback = self._step(self._fail[state], word) if state else 0
                self._fail[after] = fallback
                self._shorter[after] = fallback if self._name[fallback] >= 0 else self._shorter[fallback]
                waiting.append(after)

    def _step(self, state: int, word: int) -> int:
        while True:
            after = self._next.get(state << _WORD_BITS | word)
            if after is not None:
                return after
            if not state:
                return 0
            state = self._fail[state]

    def matches(self, words: Sequence[str]) -> Iterator[tuple[int, int, int]]:
        """(start, length, number of the name) of every occurrence, by its end, longest first."""
        state = 0
        for at, written in enumerate(words):
            word = self._words.get(written)
            if word is None:
                state = 0
                continue
            state = self._step(state, word)
            found = state if self._name[state] >= 0 else self._shorter[state]
            while found:
                yield at - self._depth[found] + 1, self._depth[found], self._name[found]
                found = self._shorter[found]
