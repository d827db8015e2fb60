"""The real small model, opened once for all tests that need it."""

from __future__ import annotations

import pytest

from risk_model.language.local import LocalLanguageModel

NEEDS = "needs the language models of `make llm`"


@pytest.fixture(scope="session")
def smollm2() -> LocalLanguageModel:
    for package in ("torch", "transformers", "llguidance"):
        pytest.importorskip(package, reason=NEEDS)
    return LocalLanguageModel()
