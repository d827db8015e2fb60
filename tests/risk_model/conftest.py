"""The real small model, opened once for all tests that need it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from risk_model.llm.local_model import LocalLanguageModel

NEEDS = "needs the language models of `make llm`"


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalLanguageModel]:
    for package in ("torch", "transformers", "llguidance"):
        pytest.importorskip(package, reason=NEEDS)
    cache = tmp_path_factory.mktemp("unpacked")  # half a gigabyte: not left lying
    yield LocalLanguageModel(cache=cache)
    shutil.rmtree(cache)
