"""Fitting: gradient boosting, calibration out of fold, and recalibration at a site."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from risk_model.training.fit import build_model
    from risk_model.training.recalibration import write_recalibrated

__all__ = [
    "build_model",
    "write_recalibrated",
]

_MODULES = {
    "build_model": "risk_model.training.fit",
    "write_recalibrated": "risk_model.training.recalibration",
}


def __getattr__(name: str) -> Any:
    """Imports a public name's module when the name is first asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
