"""The unpacked copy of a GGUF file, where several processes want it at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from risk_model.llm.dequantization import MANIFEST, alone, keep, opened_before
from tests.risk_model.conftest import NEEDS
from tests.risk_model.tiny_models import save_tiny_model


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """(model, tokenizer), a few thousand weights."""
    transformers = pytest.importorskip("transformers", reason=NEEDS)
    pytest.importorskip("torch", reason=NEEDS)
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    return (
        transformers.AutoModelForCausalLM.from_pretrained(folder),
        transformers.AutoTokenizer.from_pretrained(folder),
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    return tmp_path / "model.gguf"


def test_concurrent_processes_unpack_once(opened: tuple[Any, Any], weights: Path, tmp_path: Path) -> None:
    """A lock of its own for each, as in processes: whoever waited finds the copy of the first."""
    together, unpacked = threading.Barrier(4), []

    def wants(number: int) -> Path | None:
        together.wait()
        with alone(tmp_path / "cache"):
            if opened_before(weights, tmp_path / "cache") is None:
                unpacked.append(number)
                keep(*opened, weights, tmp_path / "cache")
        return opened_before(weights, tmp_path / "cache")

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(wants, range(4)))
    assert len(unpacked) == 1
    assert len(found) == 1
    assert None not in found


def test_a_whole_copy_is_never_taken_away_and_one_that_is_not_whole_is_made_anew(
    opened: tuple[Any, Any], weights: Path, tmp_path: Path
) -> None:
    """Without locks too: a process that comes late must not pull the files from under one that reads them."""
    keep(*opened, weights, tmp_path / "cache")
    copy = opened_before(weights, tmp_path / "cache")
    assert copy is not None
    first = (copy / "model.safetensors").stat().st_ino
    keep(*opened, weights, tmp_path / "cache")
    assert (copy / "model.safetensors").stat().st_ino == first
    (copy / "config.json").write_text("{}")
    assert opened_before(weights, tmp_path / "cache") is None
    keep(*opened, weights, tmp_path / "cache")
    assert opened_before(weights, tmp_path / "cache") == copy
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [copy.name]
    assert (copy / MANIFEST).is_file()


def test_no_waiting_on_file_systems_without_locks(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    inside = 0
    with alone(tmp_path / "file"), alone(tmp_path / "file"):
        inside += 1
    assert inside == 1  # the second would wait for the first for ever
    assert (tmp_path / "file").read_text() == "not a folder"
