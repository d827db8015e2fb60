"""The modules of the core with their tests, and how their mutants are run."""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.mutants.operators import Mutant, mutants
from tests.mutants.sessions import (
    LEAST_S,
    NOT_EXCHANGEABLE,
    PATIENCE,
    ROOT,
    SURVIVED,
    UNREACHED,
    Session,
    run_at_import,
)  # fmt: skip

Placed = tuple[str, Mutant]  # the module's path, and one of its mutants
HERE = Path(__file__).parent
CORE = HERE / "core.yaml"
EQUIVALENT = HERE / "equivalent.yaml"
# Other people's packages that take long to import: once, before anything is forked. Ours are not imported here, nor
# what pytest rewrites (hypothesis), nor what starts threads (onnxruntime).
PRELOADED = (
    "numpy", "scipy.sparse", "scipy.stats", "sklearn.metrics", "sklearn.linear_model", "xgboost", "flask", "sqlalchemy",
    "alembic", "pydantic_settings", "cryptography.hazmat.primitives.asymmetric.ec", "jwt", "requests",
    "coverage", "yaml", "orjson", "msgspec", "prometheus_client", "click", "cachetools", "selectolax.parser",
)  # fmt: skip
PACKAGES = ("artifact_store", "cds_hooks", "cds_service", "fhir_mapping", "knowledge_index", "risk_model")


@dataclass(frozen=True, slots=True)
class Group:
    """Modules of the core that are run against the same tests, and the arguments that make pytest collect those."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    without: str = ""
    """Tests left out: slow ones that prove little more about single mutations (words of `-k`, joined by "or")."""
    slowest_s: float = 2.0
    """Slower tests are not run against mutants."""
    fresh: bool = True
    """Whether the tests are quick enough for a phase of CI of three minutes."""

    @property
    def arguments(self) -> list[str]:
        return [*self.modules, *self.tests, *(["-k", f"not ({self.without})"] if self.without else [])]


def load_groups(file: Path, words: Sequence[str] = ()) -> Iterator[Group]:
    """Yields the groups of `core.yaml` with those of their modules whose path has one of `words`."""
    groups = [
        Group(**{k: tuple(v) if isinstance(v, list) else v for k, v in g.items()})
        for g in yaml.safe_load(file.read_text())
    ]
    for group in groups:
        kept = tuple(path for path in group.modules if not words or any(word in path for word in words))
        if kept:
            yield replace(group, modules=kept)


def equivalents() -> dict[str, dict[str, str]]:
    """Returns module path to key of a mutant to the reason why no test can notice it."""
    return yaml.safe_load(EQUIVALENT.read_text()) or {}


def drawn(path: str, count: int, seed: str) -> list[Mutant]:
    """Returns a sample of a module's mutants without the equivalent ones; `count` 0 returns all.

    Of a sample at most a fifth acts at import: tables of codes and words would be most of some modules' mutants.
    """
    known = equivalents().get(path, {})
    every = [mutant for mutant in mutants((ROOT / path).read_text()) if mutant.key not in known]
    if not count:
        return every
    chance = random.Random(f"{seed} {path}")
    chance.shuffle(every)
    at_import = [mutant for mutant in every if mutant.function is None][: count // 5]
    inside = [mutant for mutant in every if mutant.function is not None][: count - len(at_import)]
    return sorted(at_import + inside, key=lambda mutant: mutant.number)


def preload() -> None:
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    assert not any(name.partition(".")[0] in PACKAGES for name in sys.modules)


def check(
    group: Group, chosen: Sequence[Placed], report: Callable[[Placed, str], None], until: float | None = None
) -> None:
    """Runs mutants of a group's modules and tells the outcome of each. Call it where our packages are not imported.

    Raises RuntimeError if the tests fail without a mutation.
    """
    answers: dict[str, Any] = {}
    left: list[Placed] = []
    for line in _session(group, chosen, until):
        answers |= line
        if "mutant" not in line:
            continue
        placed = chosen[line["mutant"]]
        if line["outcome"] is None:
            left.append(placed)
        else:
            report(placed, line["outcome"])
    if "seconds" not in answers:
        raise RuntimeError(f"{group.modules[0]} ...: {answers.get('error') or 'the tests could not be collected'}")
    seconds: dict[str, float] = answers["seconds"]
    tests = [test for test in sorted(seconds, key=lambda test: seconds[test]) if seconds[test] <= group.slowest_s]
    for path, mutant in left:
        if until is None or time.monotonic() < until:
            limit = _limit(tests, seconds)
            report((path, mutant), run_at_import(ROOT / path, _name(path), mutant, tests, group.arguments, limit))


def _session(group: Group, chosen: Sequence[Placed], until: float | None) -> Iterator[dict[str, Any]]:
    """What a fork that imports the group's modules tells, line by line."""
    read, write = os.pipe()
    reader, writer = os.fdopen(read), os.fdopen(write, "w", buffering=1)

    def work(session: Session) -> None:
        for line in _in_session(session, group, chosen, until):
            writer.write(json.dumps(line) + "\n")

    child = os.fork()
    if child == 0:
        try:
            reader.close()
            silent = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, *(() if os.environ.get("MUTANTS_DEBUG") else (2,))):
                os.dup2(silent, stream)
            Session([ROOT / path for path in group.modules], group.arguments, work).run()
        finally:  # whatever happened: the rest belongs to the process that forked
            writer.flush()
            os._exit(0)
    writer.close()
    with reader:
        yield from map(json.loads, reader)
    os.waitpid(child, 0)


def _in_session(
    session: Session, group: Group, chosen: Sequence[Placed], until: float | None
) -> Iterator[dict[str, Any]]:
    """The time of each test without a mutation, then each mutant's outcome; None needs another process."""
    try:
        baseline = session.baseline()
    except RuntimeError as error:
        yield {"error": str(error)}
        return
    if baseline.failed:
        yield {"error": f"fails without a mutation: {', '.join(baseline.failed[:3])}"}
        return
    yield {"seconds": baseline.seconds}
    for place, (path, mutant) in enumerate(chosen):
        if until is not None and time.monotonic() > until:
            return
        file = ROOT / path
        tests = baseline.tests(file, mutant, group.slowest_s)
        if mutant.function is None:
            users = baseline.users_first(file, group.slowest_s)
            outcome = session.check_constant(file, _name(path), mutant, users, _limit(users, baseline.seconds))
            # What was made of the constant at import, such as a class, is still as it was.
            outcome = None if outcome in {NOT_EXCHANGEABLE, SURVIVED} else outcome
        elif not tests:
            outcome = None if baseline.at_import(file, mutant) else UNREACHED
        else:
            outcome = session.check(file, mutant, tests, _limit(tests, baseline.seconds))
            if outcome == NOT_EXCHANGEABLE or (outcome == SURVIVED and baseline.at_import(file, mutant)):
                outcome = None
        yield {"mutant": place, "outcome": outcome}


def _limit(tests: Sequence[str], seconds: dict[str, float]) -> float:
    return LEAST_S + PATIENCE * sum(seconds[test] for test in tests)


def _name(path: str) -> str:
    return path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
