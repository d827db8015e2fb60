"""Trees of LightGBM and scikit-learn in the layout of `risk_model.predictors.tree_ensemble`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.features.encoding import Encoding

Floats = NDArray[np.float64]
Columns = NDArray[np.float32]
Settings = Mapping[str, Any]
Tree = dict[str, list[Any]]
_SEED = 7
_TREES = 200
_MOST = float(np.finfo(np.float32).max)
_DEEPEST = 8
"""Deep enough for some thousand patients; an exact explanation looks at every pair of steps of a path."""


def lightgbm_trees(
    library: Any, x: Columns, y: Floats, encoding: Encoding, settings: Settings, threads: int
) -> list[Tree]:
    """Returns the trees of a LightGBM model; their leaves add up to log-odds."""
    fixed = {
        "objective": "binary", "seed": _SEED, "num_threads": threads, "verbose": -1, "deterministic": True,
        "force_row_wise": True, "monotone_constraints": list(encoding.constraints),
    }  # fmt: skip
    given = {key: value for key, value in settings.items() if key != "rounds"}
    booster = library.train(fixed | given, library.Dataset(x, label=y), num_boost_round=int(settings["rounds"]))
    return [_flat(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]


def _flat(root: Mapping[str, Any]) -> Tree:
    made = _empty()
    waiting = [(root, -1, "left_children")]
    while waiting:
        node, parent, side = waiting.pop()
        here = len(made["left_children"])
        if parent >= 0:
            made[side][parent] = here
        if "leaf_value" in node:
            _add(made, 0, float(node["leaf_value"]), True)
            continue
        bound = float(node["threshold"])
        # A column that was always known in training has no branch for unknown values: LightGBM takes them for 0.
        unknown_left = node["default_left"] if node["missing_type"] == "NaN" else bound >= 0
        _add(made, int(node["split_feature"]), _strict(bound), bool(unknown_left))
        waiting.append((node["right_child"], here, "right_children"))
        waiting.append((node["left_child"], here, "left_children"))
    return made


def random_trees(x: Columns, y: Floats, encoding: Encoding, settings: Settings, threads: int) -> list[Tree]:
    """Returns the trees of a random forest; their leaves add up to the mean share of rows with the outcome."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        n_estimators=_TREES, random_state=_SEED, n_jobs=threads, max_depth=_DEEPEST,
        monotonic_cst=list(encoding.constraints), **settings,
    )  # fmt: skip
    typical = _typical(x)
    forest.fit(_filled(x, typical), y)
    return list(_from_sklearn((tree.tree_ for tree in forest.estimators_), typical))


def balanced_trees(x: Columns, y: Floats, encoding: Encoding, settings: Settings) -> list[Tree]:
    """Returns the trees of a forest of which each tree sees as many rows with the outcome as without."""
    from sklearn.tree import DecisionTreeClassifier

    typical, generator = _typical(x), np.random.default_rng(_SEED)
    filled = _filled(x, typical)
    kinds = [np.flatnonzero(y == value) for value in (0, 1)]
    drawn = min(map(len, kinds))
    made = []
    for number in range(_TREES):
        rows = np.concatenate([generator.choice(kind, drawn) for kind in kinds])
        tree = DecisionTreeClassifier(
            max_features="sqrt", random_state=number, max_depth=_DEEPEST, monotonic_cst=list(encoding.constraints),
            **settings,
        )  # fmt: skip
        made.append(tree.fit(filled[rows], y[rows]).tree_)
    return list(_from_sklearn(made, typical))


def _typical(x: Columns) -> Columns:
    """Returns the median of each column, 0 where it is never known."""
    known = np.isfinite(x)
    found = [np.median(values[k]) if k.any() else 0.0 for values, k in zip(x.T, known.T, strict=True)]
    return np.array(found, dtype=np.float32)


def _filled(x: Columns, typical: Columns) -> Columns:
    return np.where(np.isfinite(x), x, typical)


def _from_sklearn(trees: Any, typical: Columns) -> Iterator[Tree]:
    """An unknown value takes the branch of the column's median, as in training."""
    for tree in trees:
        inner = tree.children_left >= 0
        column = np.where(inner, tree.feature, 0)
        shares = tree.value[:, 0, 1] / tree.value[:, 0].sum(axis=1)
        bounds = [_strict(float(bound)) for bound in tree.threshold]
        yield {
            "left_children": tree.children_left.tolist(),
            "right_children": tree.children_right.tolist(),
            "split_indices": column.tolist(),
            "split_conditions": np.where(inner, bounds, shares / _TREES).tolist(),
            "default_left": (inner & (typical[column] < np.asarray(bounds, np.float32))).tolist(),
        }


def _strict(bound: float) -> float:
    """Returns the float32 below which a float32 lies if and only if it is at most `bound`.

    >>> _strict(0.5) > 0.5, bool(np.float32(0.5) < np.float32(_strict(0.5)))
    (True, True)
    """
    if bound >= _MOST:  # LightGBM's 1e300: every known value goes left
        return _MOST
    near = np.float32(max(bound, -_MOST))
    if float(near) > bound:
        near = np.nextafter(near, np.float32(-np.inf))
    return float(np.nextafter(near, np.float32(np.inf)))


def _empty() -> Tree:
    return {
        "left_children": [], "right_children": [], "split_indices": [], "split_conditions": [], "default_left": [],
    }  # fmt: skip


def _add(tree: Tree, column: int, bound: float, unknown_left: bool) -> None:
    for name, value in (
        ("left_children", -1), ("right_children", -1), ("split_indices", column), ("split_conditions", bound),
        ("default_left", unknown_left),
    ):  # fmt: skip
        tree[name].append(value)
