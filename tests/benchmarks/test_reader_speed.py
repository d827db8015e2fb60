"""The speed of a reader: random weights of any shape run through the same code and command as a real model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import reader_speed
from tests.risk_model.conftest import NEEDS
from tests.risk_model.tiny_gguf import save_tiny_gguf
from tests.risk_model.tiny_models import save_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for package in ("torch", "transformers", "llguidance"):
        pytest.importorskip(package, reason=NEEDS)
    return save_tiny_model(tmp_path / "tiny")


def test_a_gguf_file_is_measured_by_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("xllamacpp", "gguf"):
        pytest.importorskip(package, reason=NEEDS)
    for name, value in (("LENGTHS", (32,)), ("RECORDS", (300,)), ("MAX_TOKENS", 12)):
        monkeypatch.setattr(reader_speed, name, value)
    gguf, out = save_tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "speed.json"
    given = ["reader_speed", "--model", str(gguf), "--threads", "1", "--windows", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", given)
    reader_speed.main()
    found = json.loads(out.read_text())["tiny.gguf, llama.cpp, CPU, 1 threads"]
    assert found["prefill"]["32"]["tokens_per_second"] > 0
    assert found["answers"]["windows"] == len(found["records"]) == 1
    monkeypatch.setattr(sys, "argv", [*given, "--shape", "8b"])
    with pytest.raises(SystemExit):
        reader_speed.main()


def test_a_shape_is_measured_and_added_to_the_results(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reader_speed, "LENGTHS", (32,))
    monkeypatch.setattr(reader_speed, "RECORDS", (300, 900))
    monkeypatch.setattr(reader_speed, "MAX_TOKENS", 12)
    out = tmp_path / "speed.json"
    out.write_text('{"another machine": {}}')
    given = ["reader_speed", "--model", str(model), "--shape", "tiny", "--windows", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", given)
    reader_speed.main()
    found = json.loads(out.read_text())
    assert "another machine" in found
    name = next(name for name in found if name.startswith("random weights, tiny shape, float32, CPU"))
    assert found[name]["prefill"]["32"]["tokens_per_second"] > 0
    assert found[name]["answers_side_by_side"]["windows"] == 1
    assert [record["characters"] for record in found[name]["records"]] == [300, 900]
    assert all(record["records_per_minute"] > 0 for record in found[name]["records"])


def test_a_missing_device_is_reported(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    monkeypatch.setattr(sys, "argv", ["reader_speed", "--device", "cuda", "--shape", "8b"])
    with pytest.raises(SystemExit):
        reader_speed.main()
    assert "no CUDA device" in capsys.readouterr().err


def test_the_8b_shape_has_eight_billion_weights() -> None:
    """Counted without making them."""
    shape = reader_speed.SHAPES["8b"]
    hidden, wide = shape["hidden_size"], shape["intermediate_size"]
    heads = hidden * shape["num_key_value_heads"] // shape["num_attention_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * heads + 3 * hidden * wide
    assert 6.5e9 < shape["num_hidden_layers"] * layer < 8e9  # and the words beside them
