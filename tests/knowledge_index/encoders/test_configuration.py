"""Encoders by name, their configurations, long texts, the static encoder, and vectors kept on disk."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from knowledge_index import Article, EncoderError, KnowledgeIndex, MiniLMEncoder, build_index
from knowledge_index.encoders.configuration import of_file
from knowledge_index.encoders.families import FAMILIES, configuration_named
from knowledge_index.encoders.long_text import encode_long
from knowledge_index.encoders.registry import Encoder, QueryEncoder, check_encoder, encode_queries, encoder_named
from knowledge_index.encoders.static import StaticEncoder
from knowledge_index.encoders.vector_cache import CachedEncoder


class Counting:
    """An encoder of three dimensions that counts what it was asked."""

    name, fingerprint, dimensions = "counting", "c1", 3

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        made = np.array([[len(text), text.count("a"), 1] for text in texts], np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)


class Asking(Counting):
    """One that takes questions otherwise."""

    def encode_queries(self, texts: Sequence[str], instruction: str | None = None) -> np.ndarray:
        return self.encode([f"{instruction}: {text}" for text in texts])


# names and configurations -------------------------------------------------------------------------------------------


def test_short_names_and_names_of_manifests_find_the_default() -> None:
    assert encoder_named("minilm").name == encoder_named("all-MiniLM-L6-v2-int8").name == MiniLMEncoder.name


def test_an_unknown_name_lists_families_and_files() -> None:
    with pytest.raises(EncoderError, match=r"minilm .*static, hf:FOLDER.*medcpt:FOLDER.*\.yaml"):
        encoder_named("word2vec")


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EncoderError, match=r'pip install "riskcards\[llm\]"'):
        encoder_named(f"hf:{tmp_path}")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_shipped_configurations_are_valid(family: str, tmp_path: Path) -> None:
    found = configuration_named(f"{family}:{tmp_path}")
    assert found.name == f"{family}:{tmp_path.resolve()}"
    assert found.model.is_relative_to(tmp_path.resolve())
    assert found.query("low sodium")[0].endswith("low sodium")
    assert configuration_named(found.name) == found


@pytest.mark.parametrize(
    ("family", "words"), [("gte-qwen2", "gte-Qwen2-1.5B"), ("llm2vec-records", "LLM2Vec-Meta"), ("bert", "BERT")]
)
def test_an_absent_model_says_what_to_download(family: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=f"is to hold .*{words}"):
        check_encoder(f"{family}:{tmp_path / 'none'}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=f"no \\*.safetensors .*{words}"):
        check_encoder(f"{family}:{tmp_path}")


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_file_describes_an_encoder(tmp_path: Path, suffix: str) -> None:
    said = {"model": "model", "pooling": "last_token", "query_template": "Instruct: {instruction}\nQuery:\n{text}",
            "instruction": "Given a record, find {text}", "max_tokens": 64, "query_model": None}  # fmt: skip
    path = tmp_path / f"encoder{suffix}"
    path.write_text(json.dumps(said))  # JSON is YAML
    found = of_file(path)
    assert (found.name, found.model, found.query_model, found.max_tokens) == (str(path), tmp_path / "model", None, 64)
    whole, start = found.query("low sodium")
    assert whole == "Instruct: Given a record, find {text}\nQuery:\nlow sodium"
    assert whole[start:] == "low sodium"
    assert found.query("x", "prefix: query")[0] == "Instruct: prefix: query\nQuery:\nx"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model: m", "pooling is missing"),
        ("pooling: mean", "model is missing"),
        ("model: m\npooling: max", "must be one of mean, cls, last_token"),
        ("model: m\npooling: mean\npoling: cls", "unknown key 'poling'"),
        ("model: m\npooling: mean\nmax_tokens: many", "max_tokens must be a whole number"),
        ("model: m\npooling: mean\nmax_tokens: true", "max_tokens must be a whole number"),
        ("model: m\npooling: mean\nmax_tokens: 0", "at least 8"),
        ("model: m\npooling: mean\nnormalise: 1", "normalise must be true or false"),
        ("model: m\npooling: mean\nquery_template: 'query: '", "exactly once"),
        ("model: m\npooling: mean\ndocument_template: '{instruction} {text}'", "takes no {instruction}"),
        ("model: m\npooling: mean\npadding_side: middle", "must be one of right, left"),
        ("model: m\npooling: mean\ndtype: int8", "must be one of auto"),
        ("- model", "a mapping of keys"),
        ("model: [", "neither JSON nor YAML"),
    ],
)
def test_invalid_configurations_are_reported(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "encoder.yaml"
    path.write_text(content)
    with pytest.raises(EncoderError) as caught:
        of_file(path)
    assert words in str(caught.value)
    assert "encoder.yaml" in str(caught.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="cannot be read"):
        encoder_named(str(tmp_path / "encoder.yaml"))


@pytest.mark.parametrize(
    ("config", "pooling_file", "expected"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, None, ("mean", 512)),
        ({"model_type": "qwen3", "max_position_embeddings": 32768}, None, ("last_token", 8192)),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, None, ("mean", 512)),
        ({"model_type": "bert"}, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls", 512)),
        ({"model_type": "own"}, {"pooling_mode": "last_token"}, ("last_token", 512)),
    ],
)
def test_pooling_is_read_from_the_model_folder(
    tmp_path: Path, config: dict[str, object], pooling_file: dict[str, object] | None, expected: tuple[str, int]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if pooling_file is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling_file))
    found = configuration_named(f"hf:{tmp_path}")
    assert (found.pooling, found.max_tokens) == expected


def test_prompts_of_a_model_folder_are_used(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "q: ", "document": "d: "}}')
    found = configuration_named(f"hf:{tmp_path}")
    assert (found.query("x")[0], found.document("x")[0]) == ("q: x", "d: x")


@pytest.mark.parametrize("pooling", [{"pooling_mode_max_tokens": True}, None])
def test_unknown_pooling_is_an_error(tmp_path: Path, pooling: object) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "own"}')
    if pooling is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(EncoderError, match="write a configuration file"):
        configuration_named(f"hf:{tmp_path}")


# long texts ---------------------------------------------------------------------------------------------------------


def test_long_records_are_encoded_beyond_256_tokens(encoder: MiniLMEncoder) -> None:
    beginning = "routine visit without complaint . " * 200
    ends = [beginning + "metastatic pancreatic cancer " * 60, beginning + "appendectomy in childhood " * 60]
    cut = encoder.encode(ends)
    assert float(cut[0] @ cut[1]) == pytest.approx(1)
    whole = encode_long(encoder, [*ends, ""])
    assert float(whole[0] @ whole[1]) < 0.99
    np.testing.assert_allclose(np.linalg.norm(whole[:2], axis=1), 1, atol=1e-5)
    assert not whole[2].any()


def test_a_short_text_is_its_own_vector(encoder: MiniLMEncoder) -> None:
    np.testing.assert_allclose(encode_long(encoder, ["low sodium"]), encoder.encode(["low sodium"]), atol=1e-6)


def test_pieces_count_by_their_tokens(encoder: MiniLMEncoder) -> None:
    text = "heart failure with low sodium . " * 50
    pieces = encoder.pieces(text)
    assert len(pieces) > 1
    expected = sum(encoder.encode([piece.text])[0] * piece.tokens for piece in pieces)
    np.testing.assert_allclose(encode_long(encoder, [text])[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_an_encoder_without_pieces_gets_a_thousand_characters_at_a_time() -> None:
    encoder = Counting()
    encode_long(encoder, ["a" * 2500])
    assert [len(text) for text in encoder.asked] == [1000, 500]  # equal pieces are encoded once


def test_encoders_without_queries_encode_them_as_documents(encoder: MiniLMEncoder) -> None:
    assert not isinstance(encoder, QueryEncoder)
    np.testing.assert_array_equal(encode_queries(encoder, ["low sodium"], "find"), encoder.encode(["low sodium"]))


# the static encoder -------------------------------------------------------------------------------------------------


def test_static_vectors_match_related_words_in_any_order() -> None:
    encoder = StaticEncoder()
    asked, same, other, turned = encoder.encode(["heart failure", "cardiac failure", "knee pain", "failure heart"])
    assert asked @ same > asked @ other + 0.2
    np.testing.assert_allclose(asked, turned, atol=1e-6)
    assert not encoder.encode([""]).any()
    assert encoder.encode([]).shape == (0, 384)


def test_static_weights_are_those_of_the_formula() -> None:
    """Two words, by hand: smooth inverse frequency over Zipf's law."""
    encoder = StaticEncoder()
    the, sepsis = (encoder._tokenizer.encode(word, add_special_tokens=False).ids for word in ("the", "sepsis"))
    assert len(the) == 1

    def weighted(place: int) -> np.ndarray:
        frequency = 1 / (max(place - 1995, 1) * np.log(30522))
        return encoder._table[place].astype(float) * encoder._scale[place] * 1e-3 / (1e-3 + frequency)

    expected = sum(weighted(place) for place in [*the, *sepsis, *sepsis])
    np.testing.assert_allclose(encoder.encode(["the sepsis sepsis"])[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_static_vectors_need_no_onnxruntime() -> None:
    import subprocess

    code = (
        "import sys; from knowledge_index.encoders.registry import encoder_named; "
        "encoder_named('static').encode(['a']); "
        "print([name for name in ('torch', 'transformers', 'onnxruntime') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


# an index belongs to its encoder ------------------------------------------------------------------------------------

ARTICLES = [Article("1", "Low sodium in heart failure", "Hyponatremia foretells death.", (), None, ())]


def test_an_index_opens_with_the_encoder_its_manifest_names_and_with_no_other(tmp_path: Path) -> None:
    build_index(ARTICLES, tmp_path / "index", encoder_named("static"))
    index = KnowledgeIndex.open(tmp_path / "index")
    assert index.encoder.name == "static"
    with pytest.raises(EncoderError, match=r"made with static .*do not mix"):
        KnowledgeIndex.open(tmp_path / "index", encoder_named("minilm"))


def test_an_index_requires_unit_vectors(tmp_path: Path) -> None:
    class Long(Counting):
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return super().encode(texts) * 7

    with pytest.raises(EncoderError, match="not of length one"):
        build_index(ARTICLES, tmp_path / "index", Long())


# kept vectors -------------------------------------------------------------------------------------------------------


def kept(folder: Path, encoder: Encoder, **options: int) -> CachedEncoder:
    return CachedEncoder(encoder, folder, **options)


def test_cached_vectors_are_shared_by_processes(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    made = kept(tmp_path, first).encode(["a", "bb", "a"])
    again = kept(tmp_path, second).encode(["bb", "a", "ccc"])
    np.testing.assert_array_equal(made[[1, 0]], again[:2])
    assert first.asked == ["a", "bb"]
    assert second.asked == ["ccc"]


def test_cache_keys_include_weights_and_instruction(tmp_path: Path) -> None:
    encoder = Asking()
    one = kept(tmp_path, encoder)
    for _ in range(2):
        one.encode(["a"])
        one.encode_queries(["a"])
        one.encode_queries(["a"], "find")
    encoder.fingerprint = "c2"
    kept(tmp_path, encoder).encode(["a"])
    assert encoder.asked == ["a", "None: a", "find: a", "a"]
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


def test_encoders_without_queries_cache_one_vector_per_text(tmp_path: Path) -> None:
    encoder = Counting()
    one = kept(tmp_path, encoder)
    one.encode_queries(["a"], "find")
    one.encode_queries(["a"], "seek")
    assert encoder.asked == ["a"]


def test_damaged_vectors_are_computed_again(tmp_path: Path) -> None:
    encoder = Counting()
    made = kept(tmp_path, encoder).encode(["a"])
    (path,) = tmp_path.glob("*.sqlite")
    with sqlite3.connect(path) as database:
        (blob,) = database.execute("SELECT value FROM contents").fetchone()
        database.execute("UPDATE contents SET value = ?", (bytes([blob[0] ^ 1]) + blob[1:],))
    database.close()
    np.testing.assert_array_equal(kept(tmp_path, encoder).encode(["a"]), made)
    assert encoder.asked == ["a", "a"]


def test_other_files_are_rejected_as_cache(tmp_path: Path) -> None:
    kept(tmp_path, Counting())
    (path,) = tmp_path.glob("*.sqlite")
    path.write_bytes(b"no database" * 500)
    with pytest.raises(EncoderError, match="delete the file"):
        kept(tmp_path, Counting()).encode(["a"])


def test_the_cache_evicts_the_oldest_vectors(tmp_path: Path) -> None:
    encoder = Counting()
    small = kept(tmp_path, encoder, most_bytes=10 * (3 * 4 + 64))
    small.encode([f"text {number}" for number in range(25)])
    (path,) = tmp_path.glob("*.sqlite")
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM contents").fetchone() == (10,)
    database.close()
    encoder.asked.clear()
    small.encode(["text 24", "text 0"])
    assert encoder.asked == ["text 0"]


def test_the_cache_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    kept(tmp_path, Counting()).encode(["a"])
    (path,) = tmp_path.glob("*.sqlite")
    assert path.stat().st_mode & 0o077 == 0


def _encode_many(folder: str, start: int) -> None:
    store = CachedEncoder(Counting(), Path(folder))
    for number in range(start, start + 40):
        store.encode([f"text {number % 50}"])


def test_processes_share_a_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_encode_many, args=(str(tmp_path), start)) for start in (0, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    encoder = Counting()
    kept(tmp_path, encoder).encode([f"text {number}" for number in range(50)])
    assert encoder.asked == []
