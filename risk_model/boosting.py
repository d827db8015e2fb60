"""XGBoost, imported without scikit-learn: its optional wrappers would cost a serving process 50 MB and load joblib."""

from __future__ import annotations

import sys
from typing import Any


def xgboost() -> Any:
    """The xgboost module. Where scikit-learn is loaded already (training), nothing is hidden."""
    if "xgboost" in sys.modules or "sklearn" in sys.modules:
        import xgboost as loaded

        return loaded
    # None makes `import sklearn` raise ImportError, which xgboost takes for "not installed".
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        import xgboost as loaded
    finally:
        del sys.modules["sklearn"]
    return loaded
