"""Hugging Face encoders against the plainest computation there is, on small models with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="language models are not installed: make llm")

from knowledge_index import EncoderError
from knowledge_index.encoders.configuration import EncoderConfiguration
from knowledge_index.encoders.long_text import encode_long
from knowledge_index.encoders.protocol import takes_instruction
from knowledge_index.encoders.registry import encoder_named
from knowledge_index.encoders.transformer import TransformerEncoder
from tests.knowledge_index.encoders.tiny_models import Plain, tiny, unit

TEXTS = [
    "low sodium",
    "the patient was admitted with sepsis and acute kidney injury",
    "heart failure",
    "lactate falls in one week of discharge and the patient has a follow up",
    "",
]
KINDS = ("bert", "qwen2", "qwen3", "llama", "mistral")
LONG = "the patient has low sodium and heart failure was admitted with sepsis . " * 30


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: tiny(folder / kind, kind) for kind in KINDS}


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token"])
def test_batched_vectors_equal_single_vectors(models: dict[str, Path], kind: str, side: str, pooling: str) -> None:
    encoder = TransformerEncoder(EncoderConfiguration("tiny", models[kind], pooling, padding_side=side))  # type: ignore[arg-type]
    plain = Plain(models[kind])
    found = encoder.encode(TEXTS)
    assert found.shape == (len(TEXTS), 32)
    assert found.dtype == np.float32
    for text, vector in zip(TEXTS, found, strict=True):
        states = plain.hidden(plain.ids(text))
        expected = {"mean": states.mean(axis=0), "cls": states[0], "last_token": states[-1]}[pooling]
        close(vector, unit(expected))
        close(encoder.encode([text])[0], vector)


def test_unnormalised_vectors_keep_their_length(models: dict[str, Path]) -> None:
    encoder = TransformerEncoder(EncoderConfiguration("tiny", models["bert"], "cls", normalise=False))
    plain = Plain(models["bert"])
    close(encoder.encode(["low sodium"])[0], plain.hidden(plain.ids("low sodium"))[0])


def test_query_and_document_models_are_separate(tmp_path: Path) -> None:
    """MedCPT: one BERT for questions, another for articles, the first token of each."""
    tiny(tmp_path / "MedCPT-Article-Encoder", "bert", seed=1)
    tiny(tmp_path / "MedCPT-Query-Encoder", "bert", seed=2)
    encoder = encoder_named(f"medcpt:{tmp_path}")
    for folder, vectors in (
        ("MedCPT-Article-Encoder", encoder.encode(TEXTS)),
        ("MedCPT-Query-Encoder", encoder.encode_queries(TEXTS)),  # type: ignore[attr-defined]
    ):
        plain = Plain(tmp_path / folder)
        for text, vector in zip(TEXTS, vectors, strict=True):
            close(vector, unit(plain.hidden(plain.ids(text))[0]))


def test_qwen3_embedding_appends_the_end_mark(models: dict[str, Path]) -> None:
    encoder = encoder_named(f"qwen3-embedding:{models['qwen3']}")
    plain = Plain(models["qwen3"])
    end = plain.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert end not in plain.ids("low sodium")
    close(encoder.encode(["low sodium"])[0], unit(plain.hidden([*plain.ids("low sodium"), end])[-1]))
    asked = encoder.encode_queries(["low sodium", *TEXTS], "given a question")  # type: ignore[attr-defined]
    whole = [*plain.ids("Instruct: given a question\nQuery:low sodium"), end]
    close(asked[0], unit(plain.hidden(whole)[-1]))


def test_gte_qwen2_reads_both_ways_and_takes_the_end_mark(models: dict[str, Path]) -> None:
    encoder = encoder_named(f"gte-qwen2:{models['qwen2']}")
    plain = Plain(models["qwen2"])
    end = plain.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    whole = [*plain.ids("Instruct: given a question\nQuery: low sodium"), end]
    found = encoder.encode_queries(["low sodium", *TEXTS], "given a question")  # type: ignore[attr-defined]
    close(found[0], unit(plain.hidden(whole, both_ways=True)[-1]))
    assert takes_instruction(encoder)


def test_bert_is_averaged_and_takes_no_instruction(models: dict[str, Path]) -> None:
    encoder = encoder_named(f"bert:{models['bert']}")
    plain = Plain(models["bert"])
    close(encoder.encode(["low sodium"])[0], unit(plain.hidden(plain.ids("low sodium")).mean(axis=0)))
    assert not takes_instruction(encoder)


def test_llm2vec_for_records_takes_8192_tokens_in_one_pass(models: dict[str, Path]) -> None:
    encoder = encoder_named(f"llm2vec-records:{models['llama']}")
    assert encoder.max_tokens == 8192  # type: ignore[attr-defined]
    assert takes_instruction(encoder)


def test_an_end_mark_is_added_once(models: dict[str, Path]) -> None:
    marked = EncoderConfiguration("tiny", models["bert"], "last_token", end_mark="[SEP]")
    close(
        TransformerEncoder(marked).encode(TEXTS),
        TransformerEncoder(replace(marked, end_mark=None)).encode(TEXTS),
    )


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_llm2vec_is_bidirectional_and_pools_without_the_instruction(
    models: dict[str, Path], kind: str, side: str
) -> None:
    shipped = encoder_named(f"llm2vec:{models[kind]}")
    encoder = TransformerEncoder(replace(shipped.configuration, padding_side=side))  # type: ignore[attr-defined]
    plain = Plain(models[kind])
    before = plain.ids("retrieve passages :")
    whole = plain.ids("retrieve passages : low sodium")
    assert whole[: len(before)] == before
    expected = unit(plain.hidden(whole, both_ways=True)[len(before) :].mean(axis=0))
    found = encoder.encode_queries(["low sodium", *TEXTS], "retrieve passages ")
    close(found[0], expected)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_bidirectional_attention_reaches_the_first_token(models: dict[str, Path], kind: str) -> None:
    for both in (False, True):
        encoder = TransformerEncoder(EncoderConfiguration("tiny", models[kind], "cls", bidirectional=both))
        one, other = encoder.encode(["heart failure sodium", "heart failure sepsis"])
        assert np.allclose(one, other, atol=1e-6) is not both


def test_models_that_stay_causal_are_rejected(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from knowledge_index.encoders import transformer

    monkeypatch.setattr(transformer._Tower, "_full_attention", lambda _self, mask: mask)
    with pytest.raises(EncoderError, match="stays causal"):
        TransformerEncoder(EncoderConfiguration("tiny", models["llama"], "mean", bidirectional=True))


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_long_texts_are_token_weighted_means_of_pieces(models: dict[str, Path], kind: str) -> None:
    encoder = TransformerEncoder(
        EncoderConfiguration("tiny", models[kind], "mean", max_tokens=64, query_template="{instruction} : {text}")
    )
    plain = Plain(models[kind])
    pieces = encoder.pieces(LONG, "retrieve passages")
    assert len(pieces) > 5
    total, weight = np.zeros(32), 0
    for piece in pieces:
        ids = plain.ids(f"retrieve passages : {piece.text}")
        assert len(ids) <= 64
        total += unit(plain.hidden(ids).mean(axis=0)) * piece.tokens
        weight += piece.tokens
    found = encode_long(encoder, ["low sodium", LONG, ""], "retrieve passages")
    close(found[1], unit(total / weight))
    close(found[0], encoder.encode_queries(["low sodium"], "retrieve passages")[0])
    assert not found[2].any()


def test_pieces_cover_the_text_and_end_at_words(models: dict[str, Path]) -> None:
    encoder = TransformerEncoder(EncoderConfiguration("tiny", models["bert"], "mean", max_tokens=40))
    numbered = " ".join(f"{chr(97 + at // 26)}{chr(97 + at % 26)} {word}" for at, word in enumerate(LONG.split()))
    pieces = encoder.pieces(numbered)
    at = 0
    for piece in pieces:
        place = numbered.find(piece.text.strip())
        assert 0 <= place <= at
        assert piece.text.strip() == piece.text
        at = max(at, place + len(piece.text))
    assert at == len(numbered)


def test_more_than_8000_tokens_give_one_vector(models: dict[str, Path]) -> None:
    encoder = TransformerEncoder(EncoderConfiguration("tiny", models["bert"], "mean", max_tokens=128))
    long = LONG * 24
    assert sum(piece.tokens for piece in encoder.pieces(long)) > 8000
    assert np.linalg.norm(encode_long(encoder, [long])) == pytest.approx(1, abs=1e-5)


def test_fewer_dimensions_are_the_first_ones(models: dict[str, Path]) -> None:
    whole = EncoderConfiguration("tiny", models["bert"], "mean")
    short = TransformerEncoder(replace(whole, dimensions=8))
    close(short.encode(["low sodium"])[0], unit(TransformerEncoder(whole).encode(["low sodium"])[0, :8]))
    with pytest.raises(EncoderError, match="documents have 32"):
        TransformerEncoder(replace(whole, dimensions=64))


def test_the_fingerprint_covers_weights_tokenizer_and_configuration_and_no_path(tmp_path: Path) -> None:
    def fingerprint(folder: str, seed: int = 0, pooling: str = "mean") -> str:
        model = tiny(tmp_path / folder, "bert", seed)
        return TransformerEncoder(EncoderConfiguration(folder, model, pooling)).fingerprint  # type: ignore[arg-type]

    first = fingerprint("one")
    assert fingerprint("moved") == first
    assert fingerprint("weights", seed=1) != first
    assert fingerprint("pooling", pooling="cls") != first
    tokens = tmp_path / "one" / "tokenizer.json"
    tokens.write_text(tokens.read_text("utf-8").replace('"sodium"', '"potassium"'), "utf-8")
    assert TransformerEncoder(EncoderConfiguration("one", tmp_path / "one", "mean")).fingerprint != first


def test_half_precision_is_near_and_has_a_fingerprint_of_its_own(models: dict[str, Path]) -> None:
    whole = EncoderConfiguration("tiny", models["qwen3"], "last_token")
    one, other = TransformerEncoder(whole), TransformerEncoder(replace(whole, dtype="bfloat16"))
    exact, near = one.encode(TEXTS), other.encode(TEXTS)
    assert near.dtype == np.float32
    assert float((exact * near).sum(axis=1).min()) > 0.99
    assert one.fingerprint != other.fingerprint


def test_encoder_decoder_models_are_rejected(tmp_path: Path) -> None:
    from tests.knowledge_index.encoders.tiny_models import tokenizer, transformers

    config = transformers.T5Config(vocab_size=120, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5Model(config).save_pretrained(tmp_path)
    tokenizer(both_ends=True).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="type t5 is no text encoder"):
        TransformerEncoder(EncoderConfiguration("t5", tmp_path, "mean"))


def test_unreadable_models_are_reported(models: dict[str, Path], tmp_path: Path) -> None:
    pickled = tiny(tmp_path / "pickled", "bert")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="is a pickle, which is not opened"):
        encoder_named(f"hf:{pickled}")
    with pytest.raises(EncoderError, match=r"config\.json is missing"):
        encoder_named(f"hf:{tmp_path / 'nowhere'}")
    with pytest.raises(EncoderError, match=r"no token '<\|end\|>'"):
        TransformerEncoder(EncoderConfiguration("tiny", models["qwen3"], "last_token", end_mark="<|end|>"))
    short = EncoderConfiguration("tiny", models["bert"], "mean", max_tokens=8, query_template="{instruction} {text}")
    encoder = TransformerEncoder(short)
    with pytest.raises(EncoderError, match="the instruction alone fills"):
        encoder.pieces("low sodium", "the patient has low sodium and heart failure")


def test_missing_weights_are_rejected(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny(tmp_path / "model", "bert")
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match="the weights lack"):
        encoder_named(f"hf:{folder}")


def test_model_code_is_never_executed(tmp_path: Path) -> None:
    import json

    folder = tiny(tmp_path / "model", "bert")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Model"}})
    )
    (folder / "own.py").write_text("raise SystemExit('was run')")
    with pytest.raises(EncoderError, match="pool"):
        encoder_named(f"hf:{folder}")
    with pytest.raises(EncoderError, match="cannot be opened"):
        TransformerEncoder(EncoderConfiguration("own", folder, "mean"))
