"""Tuning on a tiny random model: it learns, goes on after a kill as if there had been none, and signs its adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowledge_index import KnowledgeIndex
from risk_model.core.errors import ModelArtifactError, TrainingError
from risk_model.llm import adapter
from risk_model.llm.local_model import LocalLanguageModel
from risk_model.llm.weights import find_weights
from risk_model.llm_tuning.example_sources import generated_examples
from risk_model.llm_tuning.examples import ReaderExample
from risk_model.llm_tuning.lora import IGNORED, TuningSettings, TuningSplit, _Run, tokens, tune
from tests.risk_model.conftest import NEEDS
from tests.risk_model.tiny_models import save_tiny_model

QUICK = TuningSettings(
    rank=4, alpha=8, learning_rate=0.02, batch=4, epochs=3, validate_every=4, patience=99, max_tokens=2048
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("torch", "transformers", "llguidance", "peft"):
        pytest.importorskip(package, reason=NEEDS)
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def split() -> TuningSplit:
    index = KnowledgeIndex.open_starter()
    return TuningSplit(generated_examples(index, "train", 16), generated_examples(index, "validation", 4))


def base(folder: Path) -> dict[str, str]:
    return {"name": "tiny", "fingerprint": adapter.base_fingerprint(*find_weights(folder))}


def tuned(folder: Path, split: TuningSplit, out: Path, settings: TuningSettings = QUICK, **more: object) -> object:
    return tune(LocalLanguageModel(folder), split, out, settings, base=base(folder), **more)  # type: ignore[arg-type]


def stopped(folder: Path, split: TuningSplit, out: Path, at: int) -> None:
    """Training that ends as a kill would: in the middle, after `at` steps."""

    def progress(step: int, _steps: int, words: str) -> None:
        if step > at and words.startswith("loss"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(folder, split, out, progress=progress)


def test_it_learns_and_writes_a_signed_adapter_without_pickle(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    manifest = tuned(folder, split, tmp_path / "out")
    losses = [item["loss"] for item in manifest["metrics"]["validation"]]  # type: ignore[index]
    assert min(losses) < losses[0] - 0.1  # little can be learned over a random model; without learning it is 0
    assert manifest["metrics"]["lowest"] == min(losses)  # type: ignore[index]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "adapter_model.safetensors", "adapter_config.json", "manifest.json",
    }  # fmt: skip
    assert str(folder) not in (tmp_path / "out" / "adapter_config.json").read_text()
    assert adapter.check_adapter(tmp_path / "out", base(folder)["fingerprint"]) == manifest


def test_what_was_kept_is_what_was_best(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    """The adapter that is opened again has the lowest loss of all that were measured."""
    manifest = tuned(folder, split, tmp_path / "out")
    opened = LocalLanguageModel(folder, adapter=tmp_path / "out")
    run = _Run(LocalLanguageModel(folder), split, tmp_path / "new", QUICK, {})
    run.model = opened.model
    assert run.validation_loss() == pytest.approx(manifest["metrics"]["lowest"], rel=1e-4)  # type: ignore[index]


@pytest.mark.parametrize("at", [4, 9])
def test_training_that_was_killed_ends_as_if_it_had_not_been(
    folder: Path, split: TuningSplit, tmp_path: Path, at: int
) -> None:
    whole = tuned(folder, split, tmp_path / "whole")
    stopped(folder, split, tmp_path / "killed", at)
    (tmp_path / "killed" / "state-000099.part").mkdir()  # the kill came while the next state was being written
    resumed = tuned(folder, split, tmp_path / "killed", resume=True)
    assert resumed == whole
    assert not list((tmp_path / "killed").glob("state-*"))


def test_a_state_is_of_one_model_data_and_settings(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stopped(folder, split, out, 5)
    with pytest.raises(TrainingError, match="--resume"):
        tuned(folder, split, out)
    with pytest.raises(TrainingError, match="other examples or settings"):
        tuned(folder, TuningSplit(split.train[1:], split.validation), out, resume=True)
    with pytest.raises(TrainingError, match="other examples or settings"):
        tuned(folder, split, out, TuningSettings(rank=2), resume=True)
    state = next(out.glob("state-*/weights.safetensors"))
    flip(state)
    with pytest.raises(TrainingError, match="damaged"):
        tuned(folder, split, out, resume=True)


def test_tuning_can_be_ended_early_with_the_best_so_far(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    settings = TuningSettings(rank=2, batch=4, validate_every=1, max_tokens=2048)
    manifest = tuned(folder, split, tmp_path / "out", settings, enough=iter([False, True]).__next__)
    assert manifest["metrics"]["steps"] == 1  # type: ignore[index]
    assert adapter.check_adapter(tmp_path / "out") == manifest


def test_a_finished_adapter_is_not_written_over(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    once = TuningSettings(rank=2, max_steps=1, max_tokens=2048)
    tuned(folder, split, tmp_path / "out", once)
    with pytest.raises(TrainingError, match="holds an adapter already"):
        tuned(folder, split, tmp_path / "out", once, resume=True)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", [adapter.WEIGHTS, adapter.CONFIG])
def test_one_flipped_byte_is_refused_before_anything_is_opened(
    folder: Path, split: TuningSplit, tmp_path: Path, name: str
) -> None:
    tuned(folder, split, tmp_path / "out", TuningSettings(rank=2, max_steps=1, max_tokens=2048))
    flip(tmp_path / "out" / name)
    with pytest.raises(ModelArtifactError, match="altered"):
        LocalLanguageModel(folder, adapter=tmp_path / "out")


def test_an_adapter_of_another_model_is_refused(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    tuned(folder, split, tmp_path / "out", TuningSettings(rank=2, max_steps=1, max_tokens=2048))
    other = save_tiny_model(tmp_path / "other", seed=2)
    with pytest.raises(ModelArtifactError, match="tuned on 'tiny'"):
        LocalLanguageModel(other, adapter=tmp_path / "out")


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "no adapter of `riskcards train-reader`"), ("{", "not JSON"), ("[]", "not a manifest"),
        ('{"format":1,"kind":"note-reader-adapter","files":{}}', "lacks base"),
        ('{"format":1,"kind":"note-reader-adapter","base":{},"data":{},"settings":{},"metrics":{},"files":{}}',
         "files"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, manifest: str | None, words: str) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(ModelArtifactError, match=words):
        adapter.check_adapter(tmp_path)


def test_only_the_answer_is_learned(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    model = LocalLanguageModel(folder)
    run = _Run(model, split, tmp_path, QUICK, {})
    first, second = (tokens(model, example) for example in split.train[:2])
    _, mask, labels, _ = run._padded([first, second])
    learned = [[token for token in row if token != IGNORED] for row in labels.tolist()]
    assert learned == [list(item.ids[item.prompt :]) for item in (first, second)]
    assert model.tokenizer.decode(learned[0]) == split.train[0].answer().to_text() + "<|im_end|>\n"
    assert mask.sum(dim=1).tolist() == [len(first.ids), len(second.ids)]


def test_padding_changes_no_loss(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    """A batch of short and long examples has the loss of its examples one by one."""
    model = LocalLanguageModel(folder)
    run = _Run(model, split, tmp_path, QUICK, {})
    batch = [tokens(model, example) for example in split.train[:3]]
    run.model.eval()
    together, *apart = (float(run._loss(items)[0].detach()) for items in (batch, *([item] for item in batch)))
    assert together == pytest.approx(sum(apart), rel=1e-4)


def test_it_stops_when_validation_gets_no_better(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    settings = TuningSettings(
        rank=2, learning_rate=0.0, epochs=5, batch=4, validate_every=1, patience=2, max_tokens=2048
    )
    manifest = tuned(folder, split, tmp_path / "out", settings)
    assert manifest["metrics"]["steps"] == 2  # type: ignore[index]
    assert manifest["metrics"]["planned"] == 5 * 4  # type: ignore[index]


def test_unusable_examples_are_rejected(folder: Path, split: TuningSplit, tmp_path: Path) -> None:
    for broken, words in (
        (TuningSplit([], split.validation), "no training examples"),
        (TuningSplit(split.train, []), "no examples to validate on"),
        (TuningSplit(split.train, [ReaderExample("x", (), (), split.train[0].style)]), "must not be in the training"),
    ):
        with pytest.raises(TrainingError, match=words):
            tuned(folder, broken, tmp_path / "out")
    with pytest.raises(TrainingError, match="longer than 5 tokens"):
        tuned(folder, split, tmp_path / "out", TuningSettings(max_tokens=5))
    with pytest.raises(TrainingError, match="cannot be tuned"):
        tuned(folder, split, tmp_path / "out", TuningSettings(targets=("no_such_layer",), max_tokens=2048))
