"""The names of the learners, without importing them."""

from __future__ import annotations

LEARNERS = ("xgboost", "lightgbm", "logistic-regression", "random-forest", "balanced-random-forest")
"""As in `risk_model.training.learners`; a test compares the two."""
