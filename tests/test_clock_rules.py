"""No test depends on the machine's speed: benchmarks measure speed, and tests wait for conditions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).resolve().parent
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time", "monotonic_ns", "perf_counter_ns"}
ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
# Files that may sleep, and why.
SLEEPERS = {
    "patience.py": "`until` looks again after a while",
    "cds_service/fault_proxy.py": "a server that is slow",
    "cds_service/store/test_store.py": "a process is killed at random points",
}
SHORTEST = 60.0
"""Seconds. The shortest timeout of a wait before it fails."""


@cache
def trees() -> tuple[tuple[str, ast.Module], ...]:
    """Every file below `tests`: its path there, and what it holds."""
    files = sorted(TESTS.rglob("*.py"))
    return tuple((path.relative_to(TESTS).as_posix(), ast.parse(path.read_text("utf-8"))) for path in files)


def called(node: ast.Call) -> str:
    """The last name of what is called: `sleep` of `time.sleep(1)`."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def is_time(node: ast.expr, known: set[str]) -> bool:
    """Whether this is a time: read from a clock, held by one of `known` names, or a sum or difference with one."""
    if isinstance(node, ast.BinOp):
        return is_time(node.left, known) or is_time(node.right, known)
    if isinstance(node, ast.Call):
        return called(node) in CLOCKS and (not isinstance(node.func, ast.Attribute) or "time" in ast.unparse(node.func))
    return isinstance(node, ast.Name) and node.id in known


def timed_asserts(tree: ast.AST) -> Iterator[int]:
    """Lines of assertions that one time is before another."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        known: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and is_time(node.value, known):
                known |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        for node in (each for each in ast.walk(function) if isinstance(each, ast.Assert)):
            for compared in (each for each in ast.walk(node.test) if isinstance(each, ast.Compare)):
                sides = (compared.left, *compared.comparators)
                if isinstance(compared.ops[0], ORDERED) and any(is_time(side, known) for side in sides):
                    yield node.lineno


def short_waits(tree: ast.AST) -> Iterator[int]:
    """Lines where something is waited for with a literal time below SHORTEST."""
    for call in calls(tree):
        given = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
        if called(call) in {"wait", "join", "result", "communicate"}:
            given += call.args[:1]
        for value in given:
            if isinstance(value, ast.Constant) and isinstance(value.value, int | float) and value.value < SHORTEST:
                yield call.lineno


def test_tests_wait_for_conditions_instead_of_sleeping() -> None:
    found = {name for name, tree in trees() for call in calls(tree) if called(call) == "sleep"}
    assert found == set(SLEEPERS)


def test_no_test_asserts_time() -> None:
    assert [f"{name}:{line}" for name, tree in trees() for line in timed_asserts(tree)] == []


def test_no_wait_has_a_short_timeout() -> None:
    assert [f"{name}:{line}" for name, tree in trees() for line in short_waits(tree)] == []


def test_a_service_under_test_has_long_limits() -> None:
    """Its settings come from `patient_settings` or `patient`."""
    hasty = ("Settings.from_environment", "Settings", "demo_settings")
    found = [
        f"{name}:{call.lineno}"
        for name, tree in trees()
        for call in calls(tree)
        if called(call) in {"create_app", "create_demo_app"} and isinstance(call.args[0], ast.Call)
        if ast.unparse(call.args[0].func) in hasty
    ]
    assert found == []


def test_hypothesis_has_no_deadline() -> None:
    assert hypothesis.settings.default is not None
    assert hypothesis.settings.default.deadline is None
    assert hypothesis.HealthCheck.too_slow in hypothesis.settings.default.suppress_health_check
    given = [
        f"{name}:{call.lineno}"
        for name, tree in trees()
        for call in calls(tree)
        if called(call) == "settings"
        for keyword in call.keywords
        if keyword.arg == "deadline" and ast.unparse(keyword.value) != "None"
    ]
    assert given == []


@pytest.mark.parametrize(
    "code",
    [
        "assert time.monotonic() - began < 2",
        "took = time.perf_counter() - began; assert took < 2",
        "began = time.monotonic(); assert later - began < 2",
    ],
)
def test_an_assertion_on_time_is_found(code: str) -> None:
    assert list(timed_asserts(ast.parse(f"def test():\n    {code}"))) == [2]


@pytest.mark.parametrize("code", ["thread.join(30)", "event.wait(5)", "run(command, timeout=30)", "future.result(1)"])
def test_a_short_wait_is_found(code: str) -> None:
    assert list(short_waits(ast.parse(code))) == [1]
