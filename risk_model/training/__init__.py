"""Fitting: gradient boosting, calibration out of fold, and recalibration at a site."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.training.ablation import ablate, write_ablation
    from risk_model.training.fit import build_model
    from risk_model.training.recalibration import write_recalibrated

__all__ = [
    "ablate",
    "build_model",
    "write_ablation",
    "write_recalibrated",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "ablate": "risk_model.training.ablation",
        "build_model": "risk_model.training.fit",
        "write_ablation": "risk_model.training.ablation",
        "write_recalibrated": "risk_model.training.recalibration",
    },
)
