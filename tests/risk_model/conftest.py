"""The real small model, opened once for all tests that need it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from risk_model.llm.llama_model import LlamaLanguageModel
from risk_model.llm.local_model import LocalLanguageModel
from tests.risk_model.tiny_gguf import save_tiny_gguf

NEEDS = "needs the language models of `make llm`"


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalLanguageModel]:
    for package in ("torch", "transformers", "llguidance"):
        pytest.importorskip(package, reason=NEEDS)
    cache = tmp_path_factory.mktemp("unpacked")  # half a gigabyte: not left lying
    yield LocalLanguageModel(cache=cache)
    shutil.rmtree(cache)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LlamaLanguageModel:
    """A tiny model of random weights in llama.cpp."""
    for package in ("xllamacpp", "gguf"):
        pytest.importorskip(package, reason=NEEDS)
    return LlamaLanguageModel(save_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf"), threads=1)
