"""Dense layers and other modules of sentence-transformers folders: applied as published, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="language models are not installed: make llm")

import torch
from safetensors.torch import save_file

from knowledge_index import EncoderError
from knowledge_index.encoders import check_encoder, encoder_named
from tests.knowledge_index.encoders.tiny_models import Plain, tiny, unit

TEXTS = ["low sodium", "the patient was admitted with sepsis and acute kidney injury", "heart failure"]
IDENTITY, TANH = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"
PLAIN = ("models.Transformer", "models.Pooling")
ACTIVATIONS: dict[str, Any] = {IDENTITY: lambda values: values, TANH: np.tanh}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("models") / "bert", "bert")


def folder_of(bert: Path, out: Path, kinds: tuple[str, ...], pooling: dict[str, Any] | None = None) -> Path:
    """A copy of the model with these modules listed; every module but the transformer in a folder of its own."""
    shutil.copytree(bert, out)
    rows = []
    for place, kind in enumerate(kinds):
        path = "" if kind.endswith("Transformer") else f"{place}_{kind.rpartition('.')[2]}"
        rows.append({"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.{kind}"})
        (out / path).mkdir(exist_ok=True)
        if kind.endswith("Pooling"):
            (out / path / "config.json").write_text(json.dumps(pooling or {"pooling_mode_mean_tokens": True}))
    (out / "modules.json").write_text(json.dumps(rows))
    return out


def add_dense(
    folder: Path, shape: tuple[int, int], activation: str, *, bias: bool = False, seed: int = 0, said: Any = None
) -> Any:
    """Writes a Dense layer's files and returns it as a plain function."""
    torch.manual_seed(seed)
    weight, added = torch.randn(shape), torch.randn(shape[0])
    tensors = {"linear.weight": weight} | ({"linear.bias": added} if bias else {})
    save_file(tensors, folder / "model.safetensors")
    described = {"in_features": shape[1], "out_features": shape[0], "bias": bias, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(described | (said or {})))
    shift = added.numpy() if bias else 0
    return lambda values: ACTIVATIONS[activation](weight.numpy() @ values + shift)


def mean(plain: Plain, text: str) -> np.ndarray:
    return plain.hidden(plain.ids(text)).mean(axis=0)


@pytest.mark.parametrize("family", ["hf", "bert"])
def test_two_dense_layers_are_applied_as_in_embedding_gemma(bert: Path, tmp_path: Path, family: str) -> None:
    folder = folder_of(bert, tmp_path / "m", (*PLAIN, "models.Dense", "models.Dense", "models.Normalize"))
    first = add_dense(folder / "2_Dense", (48, 32), IDENTITY)
    second = add_dense(folder / "3_Dense", (16, 48), IDENTITY, seed=1)
    encoder, plain = encoder_named(f"{family}:{folder}"), Plain(bert)
    found = encoder.encode(TEXTS)
    assert found.shape == (3, 16)
    assert encoder.dimensions == 16
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, unit(second(first(mean(plain, text)))), atol=2e-5)


def test_tanh_and_bias_are_applied_as_in_labse(bert: Path, tmp_path: Path) -> None:
    kinds = ("sentence_transformer.modules.Transformer", "models.Pooling", "models.Dropout", "models.Dense")
    folder = folder_of(bert, tmp_path / "m", kinds, {"pooling_mode_cls_token": True})
    layer = add_dense(folder / "3_Dense", (32, 32), TANH, bias=True, said={"module_input_name": "sentence_embedding"})
    plain = Plain(bert)
    found = encoder_named(f"hf:{folder}").encode(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, unit(layer(plain.hidden(plain.ids(text))[0])), atol=2e-5)


def test_the_order_of_normalize_and_dense_counts(bert: Path, tmp_path: Path) -> None:
    folder = folder_of(bert, tmp_path / "m", (*PLAIN, "models.Normalize", "models.Dense"))
    layer = add_dense(folder / "3_Dense", (8, 32), IDENTITY, bias=True)
    expected = unit(layer(unit(mean(Plain(bert), "low sodium"))))
    np.testing.assert_allclose(encoder_named(f"hf:{folder}").encode(["low sodium"])[0], expected, atol=2e-5)


def test_a_folder_without_dense_layers_keeps_its_vectors_and_fingerprint(bert: Path, tmp_path: Path) -> None:
    folder = folder_of(bert, tmp_path / "m", (*PLAIN, "models.Normalize"))
    listed, bare = encoder_named(f"hf:{folder}"), encoder_named(f"hf:{bert}")
    assert listed.fingerprint == bare.fingerprint
    np.testing.assert_array_equal(listed.encode(TEXTS), bare.encode(TEXTS))


def test_the_fingerprint_covers_dense_layers(bert: Path, tmp_path: Path) -> None:
    prints = {encoder_named(f"hf:{bert}").fingerprint}
    for name, seed, order in (("a", 0, ("Dense", "Normalize")), ("b", 1, ("Dense", "Normalize")),
                              ("c", 0, ("Normalize", "Dense"))):  # fmt: skip
        folder = folder_of(bert, tmp_path / name, (*PLAIN, *(f"models.{kind}" for kind in order)))
        add_dense(folder / f"{2 + order.index('Dense')}_Dense", (32, 32), IDENTITY, bias=True, seed=seed)
        prints.add(encoder_named(f"hf:{folder}").fingerprint)
    assert len(prints) == 4


def test_the_transformer_may_be_in_a_folder_of_its_own(bert: Path, tmp_path: Path) -> None:
    """Folders of early sentence-transformers: `0_Transformer`."""
    folder = tmp_path / "m"
    shutil.copytree(bert, folder / "0_Transformer")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    rows = [{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 0, "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(rows))
    plain = Plain(bert)
    expected = unit(plain.hidden(plain.ids("low sodium"))[0])
    check_encoder(f"hf:{folder}")
    np.testing.assert_allclose(encoder_named(f"hf:{folder}").encode(["low sodium"])[0], expected, atol=2e-5)


def test_a_prompt_that_is_not_pooled_is_left_out(bert: Path, tmp_path: Path) -> None:
    """INSTRUCTOR models: `include_prompt` false."""
    folder = folder_of(bert, tmp_path / "m", PLAIN, {"pooling_mode_mean_tokens": True, "include_prompt": False})
    prompts = {"prompts": {"query": "given a question : "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    plain = Plain(bert)
    # [CLS], then the four words of the prompt; [SEP] belongs to no text.
    expected = unit(plain.hidden(plain.ids("given a question : low sodium"))[5:-1].mean(axis=0))
    encoder: Any = encoder_named(f"hf:{folder}")
    np.testing.assert_allclose(encoder.encode_queries(["low sodium"])[0], expected, atol=2e-5)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ((*PLAIN, "models.LayerNorm"), "LayerNorm is not supported"),
        ((*PLAIN, "models.Dense", "models.CNN"), "CNN is not supported"),
        (("models.Transformer", "models.WordWeights", "models.Pooling"), "Transformer then WordWeights"),
        (("models.Transformer", "models.Dense"), "Transformer then Dense"),
        (("models.StaticEmbedding", "models.Normalize"), "StaticEmbedding then Normalize"),
        (("sparse_encoder.models.MLMTransformer", "sparse_encoder.models.SpladePooling"), "MLMTransformer then Splade"),
        ((), "no module"),
    ],
)
@pytest.mark.parametrize("family", ["hf", "bge"])
def test_modules_we_cannot_compute_are_refused(
    bert: Path, tmp_path: Path, kinds: tuple[str, ...], words: str, family: str
) -> None:
    folder = folder_of(bert, tmp_path / "m", kinds)
    for opens in (check_encoder, encoder_named):
        with pytest.raises(EncoderError, match=words):
            opens(f"{family}:{folder}")


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ('{"0": "Transformer"}', "not a list of modules"),
        ("[{]", "not a list of modules"),
        ('[{"idx": 0, "path": "", "type": "pylate.models.Dense.Dense"}]', "code of another package"),
        ('[{"idx": 0, "path": "", "type": "custom_st.Transformer"}]', "code of another package"),
        ('[{"idx": 0, "path": "../other", "type": "sentence_transformers.models.Transformer"}]', "leaves the folder"),
    ],
)
def test_a_malformed_list_of_modules_is_refused(bert: Path, tmp_path: Path, listed: str, words: str) -> None:
    folder = folder_of(bert, tmp_path / "m", PLAIN)
    (folder / "modules.json").write_text(listed)
    with pytest.raises(EncoderError, match=words):
        encoder_named(f"hf:{folder}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation_function": "torch.nn.modules.activation.Softplus"}, "activation Softplus is not supported"),
        ({"module_input_name": "token_embeddings"}, "layer over token_embeddings"),
        ({"bias": True}, "disagree about the bias"),
        ("wide", "takes 40 numbers, the one before gives 32"),
        ("pickle", "pytorch_model.bin is a pickle"),
        ("absent", "no weights"),
        ("cut", "cannot be read"),
        ("names", "other.weight is not the weight"),
    ],
)
def test_a_dense_layer_that_cannot_be_applied_is_refused(bert: Path, tmp_path: Path, change: Any, words: str) -> None:
    folder = folder_of(bert, tmp_path / "m", (*PLAIN, "models.Dense"))
    more = change if isinstance(change, dict) else {}
    layer, weights = folder / "2_Dense", folder / "2_Dense" / "model.safetensors"
    add_dense(layer, (8, 40 if change == "wide" else 32), IDENTITY, said=more)
    if change == "pickle":
        weights.rename(layer / "pytorch_model.bin")
    elif change == "absent":
        weights.unlink()
    elif change == "cut":
        weights.write_bytes(weights.read_bytes()[:40])
    elif change == "names":
        save_file({"linear.weight": torch.zeros(8, 32), "other.weight": torch.zeros(1)}, weights)
    with pytest.raises(EncoderError, match=words):
        encoder_named(f"hf:{folder}")


def test_a_gemma_that_reads_both_ways_is_read_so(tmp_path: Path) -> None:
    """EmbeddingGemma is Gemma 3 with attention both ways, which the folder's config.json says."""
    from transformers import Gemma3TextConfig, Gemma3TextModel

    from tests.knowledge_index.encoders.tiny_models import tokenizer

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, vocab_size=120, max_position_embeddings=256, pad_token_id=0, use_bidirectional_attention=True,
    )  # fmt: skip
    Gemma3TextModel(config).eval().save_pretrained(tmp_path / "gemma")
    tokenizer(both_ends=True).save_pretrained(tmp_path / "gemma")
    folder = folder_of(tmp_path / "gemma", tmp_path / "m", (*PLAIN, "models.Dense"))
    layer = add_dense(folder / "2_Dense", (16, 32), IDENTITY)
    plain = Plain(tmp_path / "gemma")
    found = encoder_named(f"hf:{folder}").encode(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, unit(layer(mean(plain, text))), atol=2e-4)
    causal = json.loads((folder / "config.json").read_text())
    ids = plain.ids("low sodium and sepsis")
    assert causal["use_bidirectional_attention"]
    assert not np.allclose(plain.hidden(ids)[0], plain.hidden(ids[:2])[0])
