"""Runs a module's tests against its mutants: everything is imported and collected once, then forked for each mutant.

A process that has imported only other people's packages forks a session for a module (`Session`). The session collects
the module's tests, runs them once to learn which lines each of them runs and how long it takes, and forks a child for
each mutant: in it the code object of the mutated function is exchanged, and the tests that run its lines are run,
fastest first, until one fails. A mutation that acts at import (a constant of the module, a default value, a function
that another module calls while it is imported) needs a process that has not imported the module: `run_at_import`.
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from tests.mutants.operators import Mutant, mutated

ROOT = Path(__file__).resolve().parents[2]
KILLED, SURVIVED, UNREACHED, TIMEOUT = "killed", "survived", "no test runs it", "timeout"
NOT_EXCHANGEABLE = "its code cannot be exchanged"
# No plugin that would start processes, reorder or write caches.
OPTIONS = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-seed=0"]
# A mutant may loop for ever: its tests get this many times what they took, and at least so many seconds.
PATIENCE, LEAST_S = 8.0, 15.0
FEW = 5


Place = tuple[str, str, int]
"""File, qualified name and first line of a function."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the tests do without a mutation."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    """File to line to the tests that run it; "" where importing the modules does."""
    failed: list[str]

    def tests(self, path: Path, mutant: Mutant, slowest_s: float) -> list[str]:
        """The tests that run a mutant's lines, fastest first; then, where these are few, all others.

        What is cached for the life of a process is run by the first test that asks for it, and matters to many.
        """
        lines = self.lines[str(path)]
        found = {test for line in mutant.lines for test in lines.get(line, ()) if test}
        quick = sorted((t for t in found if self.seconds[t] <= slowest_s), key=lambda t: self.seconds[t])
        if 0 < len(found) < FEW:
            quick += [test for test in self.users_first(path, slowest_s) if test not in found]
        return quick

    def users_first(self, path: Path, slowest_s: float) -> list[str]:
        """All tests, first those that run anything of a module; of these the fastest first."""
        users = {test for tests in self.lines[str(path)].values() for test in tests}
        every = (test for test in self.seconds if self.seconds[test] <= slowest_s)
        return sorted(every, key=lambda test: (test not in users, self.seconds[test]))

    def at_import(self, path: Path, mutant: Mutant) -> bool:
        return mutant.function is None or any("" in self.lines[str(path)].get(line, ()) for line in mutant.lines)


@dataclass(slots=True, eq=False)
class Session:
    """The tests of some modules, collected in this process. Use it in a fork: it imports the modules."""

    paths: Sequence[Path]
    arguments: Sequence[str]
    work: Callable[[Session], None]
    items: dict[str, pytest.Item] = field(default_factory=dict)
    functions: dict[Place, list[FunctionType]] = field(default_factory=dict)
    coverage: Any = None
    failing: bool = False

    def run(self) -> int:
        """Collects, then calls `work`; returns pytest's exit code."""
        import coverage

        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=[str(path) for path in self.paths])
        self.coverage.start()
        return int(pytest.main([*OPTIONS, *self.arguments], plugins=[self]))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        gc.collect()
        self.functions = _functions({str(path) for path in self.paths})
        gc.freeze()  # what is frozen is shared with the forks, and no longer listed by gc
        self.work(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failing = self.failing or report.failed

    def baseline(self) -> Baseline:
        """Returns what the tests do without a mutation, measured in a fork, so that this process stays as it is."""
        answer = forked(self._measure, limit_s=600)
        if not isinstance(answer, dict):
            raise RuntimeError(f"the tests could not be run: {answer}")
        lines = {file: {int(line): tests for line, tests in found.items()} for file, found in answer["lines"].items()}
        return Baseline(answer["seconds"], lines, answer["failed"])

    def _measure(self) -> dict[str, Any]:
        seconds, failed = {}, []
        for name, item, following in self._in_order(list(self.items)):
            self.coverage.switch_context(name)
            began, self.failing = time.perf_counter(), False
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            seconds[name] = time.perf_counter() - began
            if self.failing:
                failed.append(name)
        self.coverage.stop()
        found = self.coverage.get_data()
        lines = {str(path): found.contexts_by_lineno(str(path)) for path in self.paths}
        return {"seconds": seconds, "failed": failed, "lines": lines}

    def check(self, path: Path, mutant: Mutant, tests: Sequence[str], limit_s: float) -> str:
        """Returns what the tests make of a mutant inside a function."""
        code = _code_of(mutated(path.read_text(), mutant.number, str(path)), *_place(mutant))
        functions = self.functions.get((str(path), *_place(mutant)), [])
        if not functions or any(f.__code__.co_freevars != code.co_freevars for f in functions):
            return NOT_EXCHANGEABLE

        def attempt() -> dict[str, Any]:
            self.coverage.stop()
            for function in functions:
                function.__code__ = code
            for _, item, following in self._in_order(tests):
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                if self.failing:
                    return {"outcome": KILLED}
            return {"outcome": SURVIVED}

        return _outcome(forked(attempt, limit_s))

    def check_constant(self, path: Path, name: str, mutant: Mutant, tests: Sequence[str], limit_s: float) -> str:
        """Returns what the tests make of a mutant at module level that changes nothing but constants."""

        def attempt() -> dict[str, Any]:
            self.coverage.stop()
            plain, changed = (_executed(path, name, code) for code in (path.read_text(), mutant.number))
            names = [key for key in plain if _shown(plain[key]) != _shown(changed.get(key))]
            if not names or not all(_is_data(changed.get(key), name) for key in names):
                return {"outcome": NOT_EXCHANGEABLE}
            for key in names:
                _exchange(getattr(sys.modules[name], key), changed[key], key)
            for _, item, following in self._in_order(tests):
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                if self.failing:
                    return {"outcome": KILLED}
            return {"outcome": SURVIVED}

        return _outcome(forked(attempt, limit_s))

    def _in_order(self, names: Sequence[str]) -> Iterator[tuple[str, pytest.Item, pytest.Item | None]]:
        items = [self.items[name] for name in names]
        yield from zip(names, items, [*items[1:], None], strict=True)


def _executed(path: Path, name: str, code: str | int) -> dict[str, Any]:
    """Returns the globals of a module that is run beside the imported one: as it is, or with a mutation."""
    made = compile(code, str(path), "exec") if isinstance(code, str) else mutated(path.read_text(), code, str(path))
    beside = ModuleType(name)
    beside.__dict__.update(__file__=str(path), __package__=name.rpartition(".")[0])
    exec(made, beside.__dict__)  # the module's own code
    return {key: value for key, value in vars(beside).items() if not key.startswith("__")}


def _shown(value: Any) -> str:
    """What a value is, without where it lies in memory."""
    if isinstance(value, re.Pattern):
        return f"{value.pattern}{value.flags}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _is_data(value: Any, module: str) -> bool:
    """Whether a value is made of plain values: an instance of a class of the module would be one of another class."""
    if isinstance(value, dict):
        return all(_is_data(part, module) for pair in value.items() for part in pair)
    if isinstance(value, tuple | list | set | frozenset):
        return all(_is_data(part, module) for part in value)
    return not isinstance(value, type | FunctionType) and type(value).__module__ != module


def _exchange(old: Any, new: Any, key: str) -> None:
    """Puts a constant in the place of another, wherever it was imported by its name."""
    for module in list(sys.modules.values()):
        if module is not None and vars(module).get(key) is old:
            setattr(module, key, new)


def run_at_import(
    path: Path, name: str, mutant: Mutant, tests: Sequence[str], files: Sequence[str], limit_s: float
) -> str:
    """Returns what the tests make of a mutant that acts at import. Call it where the module is not yet imported."""
    ranks = {test: rank for rank, test in enumerate(tests)}

    class Chosen:
        def pytest_configure(self) -> None:
            # Before pytest's own finder, which rewrites the assertions of files that are named as arguments.
            assert name not in sys.modules
            sys.meta_path.insert(0, _Substitute(name, path, mutated(path.read_text(), mutant.number, str(path))))

        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            items[:] = sorted((i for i in items if i.nodeid in ranks), key=lambda item: ranks[item.nodeid])

    def attempt() -> dict[str, Any]:
        code = pytest.main([*OPTIONS, "-x", *files], plugins=[Chosen()])
        # 0 passed, 5 nothing to run; anything else is a failure at import, at collection or in a test
        return {"outcome": SURVIVED if code in (0, 5) else KILLED}

    return _outcome(forked(attempt, limit_s))


class _Substitute(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from given code instead of its file."""

    def __init__(self, name: str, path: Path, code: CodeType) -> None:
        self.name, self.path, self.code = name, path, code

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname != self.name:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=str(self.path))
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)  # the module's own code with one mutation


def forked(work: Callable[[], dict[str, Any]], limit_s: float) -> dict[str, Any] | str:
    """Returns what `work` returns in a fork of this process; "timeout", or "crash N" where it did not come to an end.

    The fork is a process group of its own, with its own temporary folder, and silent.
    """
    folder = tempfile.mkdtemp(prefix="riskcards-mutant-")
    answer = Path(folder, "answer.json")
    child = os.fork()
    if child == 0:
        _become(folder, limit_s)
        code = 3
        try:
            answer.write_text(json.dumps(work()))
            code = 0
        finally:  # whatever happened: the rest belongs to the process that forked
            if code:
                traceback.print_exc()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    _end_group(child)
    text = answer.read_text() if answer.exists() else ""
    shutil.rmtree(folder, ignore_errors=True)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return TIMEOUT
    return json.loads(text) if status == 0 else f"crash {status}"


def _become(folder: str, limit_s: float) -> None:
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    os.environ["TMPDIR"] = tempfile.tempdir = folder  # pytest's temporary folders too
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(silent, stream)
    if not os.environ.get("MUTANTS_DEBUG"):
        os.dup2(silent, 2)


def _end_group(leader: int) -> None:
    """Ends what a child left running."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _outcome(answer: dict[str, Any] | str) -> str:
    """A crash is a mutant noticed: the module's tests did not pass."""
    if isinstance(answer, dict):
        return str(answer["outcome"])
    return TIMEOUT if answer == TIMEOUT else KILLED


def _place(mutant: Mutant) -> tuple[str, int]:
    assert mutant.function is not None
    return mutant.function


def _code_of(module: CodeType, name: str, line: int) -> CodeType:
    """Returns the code object of a function of a compiled module."""
    todo = [module]
    while todo:
        code = todo.pop()
        if code.co_qualname == name and code.co_firstlineno == line:
            return code
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    raise LookupError(name)


def _functions(files: set[str]) -> dict[Place, list[FunctionType]]:
    """Returns every function made from each piece of code of some files: also those that decorators wrap."""
    found: dict[Place, list[FunctionType]] = {}
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and function.__code__.co_filename in files:
            code = function.__code__
            found.setdefault((code.co_filename, code.co_qualname, code.co_firstlineno), []).append(function)
    return found
