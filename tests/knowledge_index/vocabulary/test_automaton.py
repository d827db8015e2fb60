"""The automaton against a plain search for every name at every place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knowledge_index.vocabulary.automaton import Automaton

WORDS = st.sampled_from("abc")
NAMES = st.lists(st.lists(WORDS, min_size=1, max_size=4).map(tuple), max_size=12, unique=True)


def naive(names: list[tuple[str, ...]], text: list[str]) -> set[tuple[int, int, int]]:
    return {
        (start, len(name), number)
        for number, name in enumerate(names)
        for start in range(len(text))
        if tuple(text[start : start + len(name)]) == name
    }


@given(NAMES, st.lists(st.sampled_from("abcx"), max_size=30))
def test_matches_equal_naive_search(names: list[tuple[str, ...]], text: list[str]) -> None:
    found = list(Automaton(names).matches(text))
    assert len(found) == len(set(found))
    assert set(found) == naive(names, text)


def test_matches_are_ordered_by_end_longest_first() -> None:
    automaton = Automaton([("heart", "failure"), ("failure",), ("acute", "heart", "failure")])
    assert list(automaton.matches(["acute", "heart", "failure"])) == [(0, 3, 2), (1, 2, 0), (2, 1, 1)]


def test_no_names_and_no_words() -> None:
    assert list(Automaton([]).matches(["a"])) == []
    assert list(Automaton([("a",)]).matches([])) == []
    assert list(Automaton([()]).matches(["a"])) == []
