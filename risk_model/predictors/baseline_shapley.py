"""Exact Shapley values of a tree ensemble against a reference patient, one for each clinical concept.

The players are concepts: all columns of one concept move together from the reference patient to the patient. For a
leaf that is reached only if the concepts A are the patient's and the concepts B the reference's, with |A| = a and
|B| = b, the value v gives each of A v (a-1)! b! / (a+b)! and takes v a! (b-1)! / (a+b)! from each of B (interventional
TreeSHAP with one reference: Lundberg et al., Nat Mach Intell 2020;2:56). The sum over all concepts is exactly the
difference between the log-odds of the patient and of the reference. If every column of a concept moves against its
reference in the direction of its monotone constraint, the concept's value has that sign, whatever the others are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LeafPaths:
    """Every leaf of an ensemble with the conditions on its path, arrays of shape (leaves, depth), padded at the end.

    LeafPaths.of(trees, players).contributions(row, reference)
    """

    column: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.bool_]
    """Whether the path goes left, where values below the threshold go."""
    missing: NDArray[np.bool_]
    """Whether an unknown value follows the path."""
    used: NDArray[np.bool_]
    """False for padding."""
    player: NDArray[np.int64]
    value: Floats
    players: int

    @classmethod
    def of(cls, trees: Iterable[Mapping[str, Any]], players: Sequence[int]) -> LeafPaths:
        """Returns the leaves of trees in the layout of xgboost's JSON; `players` is the concept's number of each
        column."""
        paths = [path for tree in trees for path in _paths(tree)]
        depth = max((len(nodes) for _, nodes in paths), default=0) or 1
        shape = (len(paths), depth)
        column, threshold = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        left, missing, used = (np.zeros(shape, bool) for _ in range(3))
        for number, (_, nodes) in enumerate(paths):
            for step, (where, bound, goes_left, follows) in enumerate(nodes):
                column[number, step], threshold[number, step] = where, bound
                left[number, step], missing[number, step], used[number, step] = goes_left, follows, True
        player = np.asarray(players, dtype=np.int64)[column]
        values = np.array([value for value, _ in paths], dtype=np.float64)
        return cls(column, threshold, left, missing, used, player, values, max(players, default=-1) + 1)

    def contributions(self, row: NDArray[np.float32], reference: NDArray[np.float32]) -> Floats:
        """Returns each concept's contribution, shape (players,); `row` and `reference` have shape (columns,)."""
        here, there = self._holds(row), self._holds(reference)
        alive = np.all(here | there, axis=1) & np.any(here != there, axis=1)
        mine, theirs = (here & ~there)[alive], (there & ~here)[alive]
        player, value = self.player[alive], self.value[alive]
        mine, theirs = _once(mine, player), _once(theirs, player)
        both = (mine[:, :, None] & theirs[:, None, :] & (player[:, :, None] == player[:, None, :])).any(axis=(1, 2))
        weights_mine, weights_theirs = _weights(mine.sum(axis=1), theirs.sum(axis=1), mine.shape[1])
        found = np.zeros(self.players)
        for chosen, weight in ((mine, weights_mine), (theirs, -weights_theirs)):
            share = np.where(chosen & ~both[:, None], (weight * value)[:, None], 0.0)
            np.add.at(found, player.ravel(), share.ravel())
        return found

    def _holds(self, row: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Returns which conditions a row meets, True for padding."""
        value = row[self.column]
        holds = np.where(np.isnan(value), self.missing, (value < self.threshold) == self.left)
        return np.asarray(holds | ~self.used)


def _once(chosen: NDArray[np.bool_], player: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns `chosen` with only the first place of each player of a leaf."""
    found = chosen.copy()
    for later in range(1, chosen.shape[1]):
        for earlier in range(later):
            found[:, later] &= ~(chosen[:, earlier] & (player[:, earlier] == player[:, later]))
    return found


def _weights(mine: NDArray[np.int64], theirs: NDArray[np.int64], depth: int) -> tuple[Floats, Floats]:
    table_mine, table_theirs = _tables(depth)
    return table_mine[mine, theirs], table_theirs[mine, theirs]


@lru_cache(maxsize=8)
def _tables(depth: int) -> tuple[Floats, Floats]:
    """Returns (a-1)! b! / (a+b)! and a! (b-1)! / (a+b)! for a, b up to `depth`."""
    mine, theirs = np.zeros((depth + 1, depth + 1)), np.zeros((depth + 1, depth + 1))
    for a in range(depth + 1):
        for b in range(depth + 1):
            if a:
                mine[a, b] = factorial(a - 1) * factorial(b) / factorial(a + b)
            if b:
                theirs[a, b] = factorial(a) * factorial(b - 1) / factorial(a + b)
    return mine, theirs


_Step = tuple[int, float, bool, bool]


def _paths(tree: Mapping[str, Any]) -> list[tuple[float, tuple[_Step, ...]]]:
    """Returns (value, steps) of each leaf of a tree in xgboost's JSON."""
    found = []
    waiting: list[tuple[int, tuple[_Step, ...]]] = [(0, ())]
    while waiting:
        node, steps = waiting.pop()
        left, right = tree["left_children"][node], tree["right_children"][node]
        bound = tree["split_conditions"][node]
        if left == -1:
            found.append((float(bound), steps))
            continue
        where, default_left = tree["split_indices"][node], bool(tree["default_left"][node])
        waiting.append((left, (*steps, (where, bound, True, default_left))))
        waiting.append((right, (*steps, (where, bound, False, not default_left))))
    return found
