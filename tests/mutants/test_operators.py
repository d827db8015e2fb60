"""The mutations that are made, those that are not, and what a mutated function does."""

from __future__ import annotations

import pytest

from tests.mutants.fresh import least_killed
from tests.mutants.modules import CORE, drawn, equivalents, load_groups
from tests.mutants.operators import mutants, mutated
from tests.mutants.sessions import ROOT

MADE = [
    ("x < 1", ["comparison: x < 1 -> x <= 1", "constant: 1 -> 2"]),
    ("x is None", ["comparison: x is None -> x is not None"]),
    ("x and y", ["and, or: x and y -> x or y", "operand 1 dropped: x and y -> y", "operand 2 dropped: x and y -> x"]),
    ("not x", ["not dropped: not x -> x"]),
    ("x + y", ["arithmetic: x + y -> x - y"]),
    ("x if y else z", ["always: x if y else z -> x", "never: x if y else z -> z"]),
    ("[a for a in x if a]", ["filter 1 dropped: for a in x if a -> for a in x"]),
    ("'low'", ["string: 'low' -> 'low~'"]),
    ("True", ["constant: True -> False"]),
    ("f(x)", []),
    ("f'{x}' + y", []),
]


@pytest.mark.parametrize(("expression", "expected"), MADE)
def test_what_is_mutated_in_an_expression(expression: str, expected: list[str]) -> None:
    assert [m.key for m in mutants(f"a = {expression}")] == [f": {key}" for key in expected]


STATEMENTS = [
    ("if x:\n        return 1", "guard removed"),
    ("for a in x:\n        continue", "continue, break"),
    ("x.clear()", "call removed"),
    ("return x", "return nothing"),
]


@pytest.mark.parametrize(("statement", "operator"), STATEMENTS)
def test_what_is_mutated_in_a_statement(statement: str, operator: str) -> None:
    found = mutants(f"def f(x):\n    {statement}\n    x = None\n")
    assert operator in {m.operator for m in found}
    assert {m.function for m in found} == {("f", 1)}


NOT_MADE = [
    '"""The words of a docstring."""',
    '__all__ = ["a"]',
    'def f(x: "int" = None) -> "str": ...',
    'raise ValueError("wrong")',
    'LOG.info("said", 1)\nlogging.info("said", 1)'.replace("LOG", "log"),
    '@dataclass(frozen=True)\nclass A:\n    """Words."""',
]


@pytest.mark.parametrize("source", NOT_MADE)
def test_what_no_test_should_notice_is_left(source: str) -> None:
    assert mutants(source) == []


def test_a_mutated_module_does_otherwise_in_one_place() -> None:
    source = "def f(x):\n    if x < 2:\n        return 'low'\n    return 'high'\n"
    answers = set()
    for mutant in mutants(source):
        found: dict[str, object] = {}
        exec(mutated(source, mutant.number, "made.py"), found)
        f = found["f"]
        answers.add(tuple(f(x) for x in (1, 2, 2.5, 3)))  # type: ignore[operator]
    assert ("low", "high", "high", "high") not in answers
    assert len(answers) == len(mutants(source))


def test_the_same_seed_draws_the_same_mutants_and_names_are_unique() -> None:
    path = "risk_model/scores/readmission.py"
    one, other = drawn(path, 20, "a"), drawn(path, 20, "b")
    assert one == drawn(path, 20, "a")
    assert one != other
    keys = [m.key for m in mutants((ROOT / path).read_text())]
    assert len(keys) == len(set(keys))
    assert sum(m.function is None for m in one) <= 4


def test_the_core_and_the_equivalent_mutants_exist() -> None:
    paths = [path for group in load_groups(CORE) for path in group.modules]
    assert len(paths) == len(set(paths)) > 40
    assert all((ROOT / path).is_file() for path in paths)
    for path, reasons in equivalents().items():
        assert set(reasons) <= {m.key for m in mutants((ROOT / path).read_text())}, path
        assert all(reasons.values())


@pytest.mark.parametrize(("count", "fewest"), [(0, 0), (1, 0), (30, 16), (100, 63)])
def test_chance_alone_fails_no_commit(count: int, fewest: int) -> None:
    """At the level that is held, 75 %, fewer are killed in less than one of two hundred commits."""
    assert least_killed(count) == fewest
