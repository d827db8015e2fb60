"""Imports xgboost without scikit-learn, and trains, saves and loads boosters."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.core.errors import ModelArtifactError
from risk_model.features.diseases import DISEASE, REASON
from risk_model.features.encoding import Encoding
from risk_model.first_stage.fusion import without_notes

FORGOTTEN = 10
"""One row in this many is trained on without its ICD disease inputs, so that charts in other code systems work too."""


_IMPORTING = Lock()


def xgboost() -> Any:
    """The xgboost module, imported without scikit-learn where that is not loaded yet (decision 32)."""
    with _IMPORTING:
        hidden = "xgboost" not in sys.modules and "sklearn" not in sys.modules
        if hidden:
            # None makes `import sklearn` raise ImportError, which xgboost takes for "not installed".
            sys.modules["sklearn"] = None  # type: ignore[assignment]
        try:
            import xgboost as loaded
        finally:
            if hidden:
                del sys.modules["sklearn"]
    return loaded


# The last member of a model in UBJSON: "version", an array of three small integers (xgboost's Model IO schema).
_VERSION = re.compile(rb"\x07version\[#L\x00{7}\x03[iU](.)[iU](.)[iU](.)\}\Z", re.DOTALL)


def load_booster(path: Path) -> Any:
    """The booster saved at `path`, for prediction in one thread.

    A model saved by xgboost 3.2 and opened by 3.0 has its base score misread as log-odds, without an error: a
    readmission estimate of 22 % became 67 %. So an xgboost older than the one that saved the model is rejected.

    Raises ModelArtifactError if the file is not an xgboost model, or was saved by a newer xgboost.
    """
    booster = xgboost().Booster({"nthread": 1})
    try:
        booster.load_model(path)
    except xgboost().core.XGBoostError:
        raise ModelArtifactError("not a model file that xgboost can read", path=str(path)) from None
    written = _VERSION.search(path.read_bytes())
    if written is None:
        raise ModelArtifactError("the file does not name the xgboost version that saved it", path=str(path))
    needed = (written[1][0], written[2][0])
    here = tuple(int(part) for part in xgboost().__version__.split(".")[:2])
    if here < needed:
        written_by, ours = ".".join(map(str, needed)), xgboost().__version__
        raise ModelArtifactError(
            f"written by xgboost {written_by}, and xgboost {ours} may misread it: install {written_by} or newer",
            path=str(path),
        )
    return booster


def boost(
    columns: NDArray[np.float32],
    y: NDArray[np.float64],
    encoding: Encoding,
    parameters: Mapping[str, Any],
    threads: int,
) -> Any:
    """Returns a booster trained on columns (rows, columns), NaN for unknown; `parameters` are xgboost's, and
    `rounds`."""
    settings = {key: value for key, value in parameters.items() if key != "rounds"}
    fixed = {
        "objective": "binary:logistic", "tree_method": "hist", "seed": 7, "nthread": threads,
        "monotone_constraints": encoding.constraints,
    }  # fmt: skip
    data = xgboost().DMatrix(columns, label=y, feature_names=encoding.column_names)
    return xgboost().train(settings | fixed, data, num_boost_round=parameters["rounds"])


def forgetful(x: NDArray[np.float32], names: Sequence[str], forget_notes: bool = False) -> NDArray[np.float32]:
    """Returns the rows as used for training: see `FORGOTTEN`. With `forget_notes`, as many other rows lose the inputs
    read from notes, so that the estimate without notes, which limits the influence of a language model, was trained
    too."""
    coded = [place for place, name in enumerate(names) if name.startswith((REASON, DISEASE))]
    if not coded and not forget_notes:
        return x
    found = x.copy()
    found[np.ix_(range(0, len(x), FORGOTTEN), coded)] = np.nan
    if forget_notes:
        chosen = slice(FORGOTTEN // 2, None, FORGOTTEN)
        found[chosen] = without_notes(names, found[chosen])
    return found


def reference_rows(described: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """Returns made-up patients, shape (3, inputs): the lowest, median and highest values of the manifest's inputs.

    Their log-odds are kept in the manifest and checked on opening, against a library that reads a model differently.
    """
    rows = [[item.get(name) for item in described] for name in ("low", "median", "high")]
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float32)
