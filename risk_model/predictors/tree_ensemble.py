"""Trees of any library, saved as JSON in the layout of xgboost's: values below a threshold go left.

Read and explained without the library that made them. The margin is the sum of the leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from risk_model.predictors.baseline_shapley import LeafPaths

Floats = NDArray[np.float64]
Columns = NDArray[np.float32]
Tree = Mapping[str, Any]
"""`left_children`, `right_children` (-1 at a leaf), `split_indices`, `split_conditions` (a leaf's value) and
`default_left`: lists with one entry a node, the root first."""
_KEYS = ("left_children", "right_children", "split_indices", "split_conditions", "default_left")


@dataclass(frozen=True, slots=True)
class _Nodes:
    """All nodes of all trees in one array each; `roots` are the positions of the first ones."""

    roots: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    column: NDArray[np.int64]
    threshold: NDArray[np.float32]
    default_left: NDArray[np.bool_]
    value: Floats


@dataclass(frozen=True, slots=True)
class TreeEnsemble:
    """TreeEnsemble.of(names, trees).margins(columns)"""

    names: tuple[str, ...]
    trees: tuple[Tree, ...]
    _nodes: _Nodes
    file: str = "model.json"

    @classmethod
    def of(cls, names: Sequence[str], trees: Sequence[Tree]) -> TreeEnsemble:
        """Raises ValueError for trees with a cycle, a missing node, or a column that is none."""
        return cls(tuple(names), tuple(trees), _nodes(trees, len(names)))

    @property
    def column_names(self) -> list[str]:
        return list(self.names)

    @property
    def is_constant(self) -> bool:
        return all(len(tree["left_children"]) == 1 for tree in self.trees)

    def margins(self, columns: Columns) -> Floats:
        """Returns the sum of the leaves of each row."""
        nodes = self._nodes
        rows = np.arange(len(columns))[:, None]
        at = np.broadcast_to(nodes.roots, (len(columns), len(nodes.roots)))
        while (inner := nodes.left[at] >= 0).any():
            value = columns[rows, nodes.column[at]]
            left = np.where(np.isnan(value), nodes.default_left[at], value < nodes.threshold[at])
            at = np.where(inner, np.where(left, nodes.left[at], nodes.right[at]), at)
        found: Floats = nodes.value[at].sum(axis=1)
        return found

    def contributions(self, players: Sequence[int]) -> Callable[[Columns, Columns], Floats]:
        paths = cache(lambda: LeafPaths.of(self.trees, players))
        return lambda row, reference: paths().contributions(row, reference)

    def to_bytes(self) -> bytes:
        raw = {"format": "trees", "columns": list(self.names), "trees": list(self.trees)}
        return orjson.dumps(raw, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> TreeEnsemble:
        """Raises KeyError, TypeError or ValueError for anything that `to_bytes` did not write."""
        trees = [{key: tree[key] for key in _KEYS} for tree in raw["trees"]]
        return cls.of([str(name) for name in raw["columns"]], trees)


def _nodes(trees: Sequence[Tree], columns: int) -> _Nodes:
    sizes = [len(tree["left_children"]) for tree in trees]
    if not sizes or any(len(tree[key]) != size for tree, size in zip(trees, sizes, strict=True) for key in _KEYS):
        raise ValueError("a tree without nodes, or with lists of different lengths")
    roots = np.cumsum([0, *sizes[:-1]])

    def joined(key: str, kind: Any) -> NDArray[Any]:
        return np.concatenate([np.asarray(tree[key], dtype=kind) for tree in trees])

    offset = np.repeat(roots, sizes)
    left, right = joined("left_children", np.int64), joined("right_children", np.int64)
    inner, local = left >= 0, np.arange(len(left)) - offset
    # Children come after their parent: a walk from the root ends.
    forward = (left > local) & (right > local) & (left < np.repeat(sizes, sizes)) & (right < np.repeat(sizes, sizes))
    column, bound = joined("split_indices", np.int64), joined("split_conditions", np.float64)
    if not forward[inner].all() or not np.isfinite(bound).all() or (column[inner] >= columns).any():
        raise ValueError("a tree with a node that is not there, or a column that is none")
    if (column[inner] < 0).any():
        raise ValueError("a tree with a column that is none")
    return _Nodes(
        roots,
        np.where(inner, left + offset, -1),
        np.where(inner, right + offset, -1),
        np.where(inner, column, 0),
        bound.astype(np.float32),
        joined("default_left", np.bool_),
        np.where(inner, 0.0, bound),
    )
