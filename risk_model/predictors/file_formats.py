"""The fitted part of a model: columns in, a margin out, and exact contributions; one class for each file format.

A margin is what the calibration turns into log-odds by an intercept and a slope. No format is pickle: xgboost's own
UBJSON, and JSON of our own for linear models (`linear_model`) and trees of other libraries (`tree_ensemble`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from risk_model.core.errors import ModelArtifactError
from risk_model.predictors.baseline_shapley import LeafPaths
from risk_model.predictors.boosting import load_booster, xgboost
from risk_model.predictors.linear_model import LinearModel
from risk_model.predictors.tree_ensemble import TreeEnsemble

Floats = NDArray[np.float64]
Columns = NDArray[np.float32]
Contributions = Callable[[Columns, Columns], Floats]
"""(columns of a patient, columns of the reference) -> what each player adds between their margins."""


class Predictor(Protocol):
    """A fitted model of columns, NaN for unknown."""

    @property
    def file(self) -> str:
        """The name of its file in a model folder."""
        ...

    @property
    def column_names(self) -> list[str]: ...

    @property
    def is_constant(self) -> bool:
        """Whether it gives every patient the same margin."""
        ...

    def margins(self, columns: Columns) -> Floats:
        """Returns the margin of each row, shape (rows,); `columns` has shape (rows, columns)."""
        ...

    def contributions(self, players: Sequence[int]) -> Contributions:
        """Returns a function for exact Shapley values against a reference; `players` is each column's player."""
        ...

    def to_bytes(self) -> bytes:
        """Returns the content of its file."""
        ...


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """An xgboost model."""

    booster: Any
    file: str = "model.ubj"

    @property
    def column_names(self) -> list[str]:
        return list(self.booster.feature_names or [])

    @property
    def is_constant(self) -> bool:
        return not self.booster.get_score(importance_type="weight")

    def margins(self, columns: Columns) -> Floats:
        """Returns log-odds. The names of the columns are checked once, on opening."""
        data = xgboost().DMatrix(columns, nthread=1)
        return np.asarray(self.booster.predict(data, validate_features=False, output_margin=True), dtype=np.float64)

    def contributions(self, players: Sequence[int]) -> Contributions:
        """The trees are read when the first estimate is explained."""

        @cache
        def paths() -> LeafPaths:
            model = orjson.loads(self.booster.save_raw("json"))["learner"]["gradient_booster"]["model"]
            return LeafPaths.of(model["trees"], players)

        return lambda row, reference: paths().contributions(row, reference)

    def to_bytes(self) -> bytes:
        return bytes(self.booster.save_raw("ubj"))


_JSON_FORMATS: dict[str, Callable[[dict[str, Any]], Predictor]] = {
    "linear": LinearModel.from_json,
    "trees": TreeEnsemble.from_json,
}


def open_predictor(path: Path) -> Predictor:
    """Returns the predictor in a file of a model folder, whose hash was checked.

    Raises ModelArtifactError if it is damaged, or of a format this version does not know.
    """
    if path.suffix == ".ubj":
        return BoostedTrees(load_booster(path))
    try:
        raw = orjson.loads(path.read_bytes())
        return _JSON_FORMATS[raw["format"]](raw)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__} {error}"
        raise ModelArtifactError(f"not a model of this version: {why}", path=str(path)) from None
