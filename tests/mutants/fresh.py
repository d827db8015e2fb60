"""A few mutants drawn anew for each commit: CI's check that the tests still notice."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from math import comb

from tests.mutants.modules import Group, Placed, check, drawn, preload
from tests.mutants.survey import NOTICED

# What the core holds at least as a whole, by `results.json`; raise it with the results. The aim is `survey.LEVEL`.
HELD = 0.75
# A landing that keeps this level fails by chance less often than this.
FALSE_ALARM = 0.005
# So many groups of modules are drawn: each costs one run of its tests before its first mutant.
GROUPS = 4


def run(groups: Sequence[Group], count: int, seed: str, processes: int, limit_s: float) -> int:
    """Runs `count` mutants of some groups; returns 1 where fewer are killed than the level explains by chance."""
    preload()
    until = time.monotonic() + limit_s
    chance = random.Random(seed)
    chosen = chance.sample(list(groups), min(len(groups), GROUPS))
    each = [count // len(chosen) + (place < count % len(chosen)) for place in range(len(chosen))]
    drawn_ones = [_drawn(group, n, chance) for group, n in zip(chosen, each, strict=True)]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        found = [pair for some in pool.map(_some, chosen, drawn_ones, [until] * len(chosen)) for pair in some]
    survived = [pair for pair in found if pair[1] not in NOTICED]
    for where, outcome in survived:
        print(f"{outcome}: {where}")
    fewest, killed = least_killed(len(found)), len(found) - len(survived)
    print(f"{killed} of {len(found)} fresh mutants killed (seed {seed}); at least {fewest} are needed")
    return 0 if killed >= fewest else 1


def _drawn(group: Group, count: int, chance: random.Random) -> list[Placed]:
    every = [(path, mutant) for path in group.modules for mutant in drawn(path, 0, "")]
    return chance.sample(every, min(count, len(every)))


def _some(group: Group, chosen: list[Placed], until: float) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def report(placed: Placed, outcome: str) -> None:
        path, mutant = placed
        found.append((f"{path}:{mutant.line} {mutant.key}", outcome))

    try:
        check(replace(group, modules=tuple(sorted({path for path, _ in chosen}))), chosen, report, until)
    except RuntimeError as error:  # the tests themselves fail: that is for `make test` to say
        print(f"not run: {error}", flush=True)
    return found


def least_killed(count: int) -> int:
    """Returns the fewest of `count` mutants that must be killed: fewer, and the held level is not kept, but for a
    chance of less than `FALSE_ALARM`.

    >>> least_killed(30), least_killed(0)
    (16, 0)
    """
    chance = 0.0
    for killed in range(count + 1):
        chance += comb(count, killed) * HELD**killed * (1 - HELD) ** (count - killed)
        if chance >= FALSE_ALARM:
            return killed
    return count
